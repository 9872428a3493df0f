"""What the supervisor is asked to do with containers and programs, request by request (`protocol.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from hakobune.runtime.container import ContainerError, ContainerSpec, ContainerStatus
from hakobune.runtime.programs import Programs
from hakobune.runtime.roster import Roster
from hakobune.runtime.server import Call


class Verbs:
    """Each reads the arguments of one verb and answers, at once or later.

    Every one may raise `ContainerError`, and `KeyError`, `TypeError` or `ValueError` for what it cannot understand.
    """

    def __init__(self, roster: Roster, programs: Programs) -> None:
        self._roster = roster
        self._programs = programs

    def find(self, name: str) -> Callable[[Call, dict[str, Any]], None] | None:
        """The verb of that name."""
        verb = _TABLE.get(name)
        return None if verb is None else partial(verb, self)

    def _create(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.create(ContainerSpec.from_json(args["spec"]), _answerer(call))

    def _create_again(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.create_again(args["id"], _answerer(call))

    def _execute(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.execute(args["id"], args["process"], _answerer(call))

    def _start(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.start(args["id"]).to_json())

    def _stop(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.stop(args["id"], float(args.get("timeout_s", 10.0)), _answerer(call))

    def _kill(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.kill(args["id"], int(args["signal"]))
        call.answer(None)

    def _remove(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.remove(
            args["id"], force=bool(args.get("force", False)), answer=_answerer(call, value=False)
        )

    def _get(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.get(args["id"]).to_json())

    def _list(self, call: Call, args: dict[str, Any]) -> None:
        call.answer([s.to_json() for s in self._roster.list(args.get("labels", {}))])

    def _wait(self, call: Call, args: dict[str, Any]) -> None:
        self._roster.wait(args["id"], _answerer(call))

    def _keep(self, call: Call, args: dict[str, Any]) -> None:
        status = self._roster.keep(args["id"], forgotten_at_end=bool(args["forgotten_at_end"]))
        call.answer(status.to_json())

    def _freeze(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.freeze(args["id"]).to_json())

    def _thaw(self, call: Call, args: dict[str, Any]) -> None:
        call.answer(self._roster.thaw(args["id"]).to_json())

    def _sockets(self, call: Call, args: dict[str, Any]) -> None:
        call.answer([s.to_json() for s in self._roster.sockets(args["id"])])

    def _start_program(self, call: Call, args: dict[str, Any]) -> None:
        status = self._programs.start(
            args["name"],
            tuple(args["argv"]),
            args.get("env"),
            args.get("cwd", "/"),
            tuple(args.get("listen", ())),
            lazily=bool(args.get("lazily", False)),
        )
        call.answer(status.to_json())

    def _stop_program(self, call: Call, args: dict[str, Any]) -> None:
        self._programs.stop(
            args["name"], float(args.get("timeout_s", 10.0)), lambda: call.answer(None)
        )

    def _list_programs(self, call: Call, args: dict[str, Any]) -> None:
        call.answer([status.to_json() for status in self._programs.statuses()])


_Verb = Callable[[Verbs, Call, dict[str, Any]], None]
_TABLE: Final[Mapping[str, _Verb]] = {
    "create": Verbs._create,
    "create_again": Verbs._create_again,
    "execute": Verbs._execute,
    "start": Verbs._start,
    "stop": Verbs._stop,
    "kill": Verbs._kill,
    "remove": Verbs._remove,
    "get": Verbs._get,
    "list": Verbs._list,
    "wait": Verbs._wait,
    "keep": Verbs._keep,
    "freeze": Verbs._freeze,
    "thaw": Verbs._thaw,
    "sockets": Verbs._sockets,
    "start_program": Verbs._start_program,
    "stop_program": Verbs._stop_program,
    "programs": Verbs._list_programs,
}


def _answerer(
    call: Call, *, value: bool = True
) -> Callable[[ContainerStatus | ContainerError], None]:
    def answer(result: ContainerStatus | ContainerError) -> None:
        if isinstance(result, ContainerError):
            call.fail(result)
        else:
            call.answer(result.to_json() if value else None)

    return answer
