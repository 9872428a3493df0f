"""The containers of one supervisor, by id: what can be asked of each, and done with it.

Everything here returns at once; what takes time ends in a callback. A container's life is
`creating` (crun at work) → `created` → `running` ⇄ `frozen` → `stopped`, each step written to
`containers/ID/state.json` before anybody is told.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from hakobune.runtime.adoption import write_spec
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.cgroups import Cgroups
from hakobune.runtime.container import (
    ContainerError,
    ContainerSpec,
    ContainerStatus,
    ListeningSocket,
    Phase,
)
from hakobune.runtime.container_names import name_taken, no_container
from hakobune.runtime.creation import Creation
from hakobune.runtime.crun import Crun
from hakobune.runtime.departure import Departure
from hakobune.runtime.detached_exec import execute_detached
from hakobune.runtime.event import Event, EventKind
from hakobune.runtime.held import Answer, Held
from hakobune.runtime.launch import attach_place
from hakobune.runtime.ledger import Ledger
from hakobune.runtime.log_book import LogBook
from hakobune.runtime.loop import Loop
from hakobune.runtime.pool import BerthPool
from hakobune.runtime.sockets import listening_sockets
from hakobune.runtime.takeover import Takeover


class Roster:
    """The containers of one supervisor."""

    def __init__(
        self,
        loop: Loop,
        home: Path,
        *,
        crun: Crun,
        cgroups: Cgroups,
        pool: BerthPool,
        seccomp: bytes | None,
        resolv_conf: Callable[[], str],
        tell: Callable[[Event], None],
    ) -> None:
        self._loop = loop
        self._folder = home / "containers"
        self._place = attach_place(home)
        self._crun = crun
        self._cgroups = cgroups
        self._containers: dict[str, Held] = {}
        self._ledger = Ledger(tell)
        logs = LogBook(loop)
        self._departure = Departure(
            loop, crun=crun, pool=pool, logs=logs, ledger=self._ledger, gone=self._forget
        )
        self._creation = Creation(
            loop,
            home,
            crun=crun,
            pool=pool,
            seccomp=seccomp,
            resolv_conf=resolv_conf,
            logs=logs,
            ledger=self._ledger,
            departure=self._departure,
        )
        self._takeover = Takeover(
            loop,
            crun=crun,
            cgroups=cgroups,
            pool=pool,
            logs=logs,
            departure=self._departure,
            containers=self._containers,
        )
        self._folder.mkdir(parents=True, exist_ok=True)

    # looking

    def get(self, id: str) -> ContainerStatus:
        return self._held(id).status

    def list(self, labels: Mapping[str, str]) -> tuple[ContainerStatus, ...]:
        """Those that carry all *labels*, oldest first."""
        wanted = labels.items()
        statuses = (held.status for held in self._containers.values())
        chosen = [status for status in statuses if wanted <= status.labels.items()]
        return tuple(sorted(chosen, key=lambda status: status.created_at))

    def sockets(self, id: str) -> tuple[ListeningSocket, ...]:
        held = self._live(id)
        assert held.status.pid is not None
        return listening_sockets(held.status.pid, held.group.pids())

    @property
    def living(self) -> tuple[str, ...]:
        """The ids of those that have not stopped."""
        return tuple(i for i, h in self._containers.items() if h.status.phase is not Phase.STOPPED)

    @property
    def is_creating(self) -> bool:
        """Whether crun is at work on any of them."""
        return any(h.status.phase is Phase.CREATING for h in self._containers.values())

    # making

    def create(self, spec: ContainerSpec, answer: Answer) -> None:
        """Make a container; *answer* gets its status when it is `created`, or the error.

        Raises:
            ContainerError: it cannot even be begun.
        """
        if spec.id in self._containers:
            raise name_taken(spec.id)
        folder = self._folder / spec.id
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        self._make(Held(spec, folder, _first_status(spec, folder), self._group(spec.id)), answer)

    def create_again(self, id: str, answer: Answer) -> None:
        """Make a container that has stopped anew, over what it wrote if its top is on disk; its log goes on.

        Raises:
            ContainerError: it cannot even be begun; it stays as it was.
        """
        old = self._held(id)
        old.expect("start", Phase.STOPPED)
        old.expect_nobody_at_its_files()
        if old.spec.top is not None:  # a volatile mount refuses a work folder that has served one
            shutil.rmtree(Path(old.spec.top, "wk"), ignore_errors=True)
        status = replace(_first_status(old.spec, old.folder), created_at=old.status.created_at)
        held = Held(old.spec, old.folder, status, self._group(id), before=old.status)
        self._make(held, answer)

    def _group(self, id: str) -> Cgroup:
        return self._cgroups.create(f"containers/{id}")

    def _make(self, held: Held, answer: Answer) -> None:
        held.remove_at_end = held.spec.remove_on_exit
        self._containers[held.spec.id] = held
        self._creation.make(held, answer)

    # changing

    def start(self, id: str) -> ContainerStatus:
        """Let a created container's program begin."""
        held = self._held(id)
        held.expect("start", Phase.CREATED)
        self._crun.start(id)
        self._ledger.change(held, EventKind.STARTED, phase=Phase.RUNNING, started_at=time.time())
        return held.status

    def freeze(self, id: str) -> ContainerStatus:
        held = self._held(id)
        if held.status.phase is not Phase.FROZEN:
            held.expect("freeze", Phase.RUNNING)
            held.group.freeze()
            self._ledger.change(held, EventKind.FROZEN, phase=Phase.FROZEN)
        return held.status

    def thaw(self, id: str) -> ContainerStatus:
        held = self._held(id)
        if held.status.phase is not Phase.RUNNING:
            held.expect("thaw", Phase.FROZEN)
            held.group.thaw()
            self._ledger.change(held, EventKind.THAWED, phase=Phase.RUNNING)
        return held.status

    def kill(self, id: str, number: int) -> None:
        """Send a signal to the container's first process. One that is frozen gets it now only if it is SIGKILL."""
        self._live(id).signal(number)

    def execute(self, id: str, process: Mapping[str, object], answer: Answer) -> None:
        """Run another process in it, described as in the runtime-spec; *answer* comes when it runs.

        Its output goes to the container's log. It ends by itself, or with the container.
        """
        held = self._held(id)
        held.expect("use", Phase.RUNNING)
        execute_detached(self._loop, self._crun, self._place, held, process, answer)

    def stop(self, id: str, timeout_s: float, answer: Answer) -> None:
        """Stop signal, then after *timeout_s* kill; *answer* gets the status when it has stopped."""
        held = self._held(id)
        if held.status.phase is Phase.STOPPED:
            answer(held.status)
            return
        if held.status.phase is Phase.CREATING:
            raise ContainerError(
                f"cannot stop the container {id!r}", why="it is being made", kind="phase"
            )
        held.waiting.append(answer)
        if held.status.phase is Phase.CREATED or timeout_s <= 0:
            held.kill()
            return
        if held.status.phase is Phase.FROZEN:
            self.thaw(id)
        held.status = replace(held.status, stopping=True)
        self._ledger.write(held)
        held.signal(_signal_number(held.spec.stop_signal))
        if held.stop_timer is None:
            held.stop_timer = self._loop.after(timeout_s, held.kill)

    def wait(self, id: str, answer: Answer) -> None:
        """*answer* gets the status when the container has stopped."""
        held = self._held(id)
        if held.status.phase is Phase.STOPPED:
            answer(held.status)
        else:
            held.waiting.append(answer)

    def remove(self, id: str, *, force: bool, answer: Answer) -> None:
        """Forget a stopped container and its folder; *force* kills it first."""
        held = self._held(id)
        if held.status.phase is Phase.STOPPED:
            self._departure.remove(held)
            answer(held.status)
        elif force:
            held.remove_at_end = True
            self.stop(id, 0.0, answer)
        else:
            raise ContainerError(
                f"cannot remove the container {id!r}",
                why=f"it is {held.status.phase}",
                fix="stop it first, or force",
                kind="phase",
            )

    def keep(self, id: str, *, forgotten_at_end: bool) -> ContainerStatus:
        """It is not its owner's any more, whatever its specification said, and may be kept at its end."""
        held = self._live(id)
        held.spec = replace(held.spec, remove_on_exit=forgotten_at_end, owned=False)
        held.remove_at_end = forgotten_at_end
        write_spec(held.folder, held.spec)
        return held.status

    # one supervisor after another

    def adopt(self) -> None:
        """Take over what earlier supervisors left in `containers/`."""
        self._takeover.take_all(self._folder)

    def pause_output(self) -> None:
        """Before another program takes this process over: nothing read may be lost."""
        for held in self._containers.values():
            if held.output is not None:
                held.output.pause()

    def wants_berths(self) -> None:
        """Let the pool be filled when there is nothing else to do."""
        self._departure.wants_berths()

    def _held(self, id: str) -> Held:
        held = self._containers.get(id)
        if held is None:
            raise no_container(id)
        return held

    def _live(self, id: str) -> Held:
        held = self._held(id)
        held.expect("use", Phase.CREATED, Phase.RUNNING, Phase.FROZEN)
        return held

    def _forget(self, held: Held) -> None:
        self._containers.pop(held.spec.id, None)


def _first_status(spec: ContainerSpec, folder: Path) -> ContainerStatus:
    return ContainerStatus(
        id=spec.id,
        phase=Phase.CREATING,
        labels=dict(spec.labels),
        log_path=spec.log_path or str(folder / "log"),
        created_at=time.time(),
    )


def _signal_number(name: str) -> int:
    text = name.upper()
    if text.isdecimal():
        return int(text)
    try:
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except KeyError:
        return signal.SIGTERM
