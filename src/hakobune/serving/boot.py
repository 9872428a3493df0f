"""Starting one instance: container, program, startup probe; and finding out why it is not well."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerSpec, ContainerStatus, ListeningSocket
from hakobune.runtime.logs import read_records
from hakobune.serving.diagnosis import (
    LAST_LINES,
    BootError,
    BootFacts,
    describe_ready,
    explain_boot,
    listening_hint,
)
from hakobune.serving.instance import Instance
from hakobune.serving.probe import FIRST_WAIT_S, LONGEST_WAIT_S, Answer, ask, budget_s, probed_port
from hakobune.serving.revision import Revision
from hakobune.serving.supervisor_link import SupervisorLink
from hakobune.serving.template import Probe

HINT_AFTER_S = 3.0
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")

MakeSpec = Callable[[str, str], Awaitable[ContainerSpec]]  # revision's full name, container id


@dataclass(frozen=True, slots=True)
class Booted:
    """How an instance became ready."""

    seconds: float
    message: str


class Booter:
    """Starts instances.

    Args:
        make_spec: the container of a revision under that id.
        hint: told once, after some seconds, which address a starting instance listens on instead.
    """

    def __init__(
        self,
        link: SupervisorLink,
        make_spec: MakeSpec,
        hint: Callable[[Revision, str], Awaitable[None]],
    ) -> None:
        self._link = link
        self._make_spec = make_spec
        self._hint = hint

    async def start(
        self, instance: Instance, revision: Revision, exited: asyncio.Future[ContainerStatus]
    ) -> Booted:
        """Make and start the container, and wait until its probe says it is ready.

        Raises:
            BootError: it is not, with everything that was seen.
            HakoError: the container could not even be made.
        """
        spec = await self._make_spec(revision.name, instance.id)
        status = await self._link.create(spec)
        instance.address = status.address or ""
        await self._link.start_container(instance.id)
        return await self.watch(instance, revision, exited)

    async def watch(
        self, instance: Instance, revision: Revision, exited: asyncio.Future[ContainerStatus]
    ) -> Booted:
        """Wait until a started instance is ready (also one that an earlier controller started)."""
        probe = revision.containers[0].startup_probe
        assert probe is not None, "a validated container has a startup probe"
        began = time.monotonic()
        answer, wait_s, failures, hinted = (
            Answer(False, "was not asked", False),
            FIRST_WAIT_S,
            0,
            False,
        )
        await asyncio.wait({exited}, timeout=probe.initial_delay_seconds)
        while not exited.done() and time.monotonic() - began < budget_s(probe):
            answer = await _ask_alive(instance.address, probe, exited) or answer
            seconds = time.monotonic() - began
            if answer.ready:
                sockets = await self._sockets(instance.id)
                return Booted(seconds, describe_ready(seconds, sockets, probed_port(probe)))
            failures += answer.listening
            if answer.listening and failures >= probe.failure_threshold:
                break
            if seconds > HINT_AFTER_S and not hinted:
                hinted = True
                await self._tell_hint(instance, revision)
            pause_s = probe.period_seconds if answer.listening else wait_s
            await asyncio.wait({exited}, timeout=pause_s)
            wait_s = min(wait_s * 1.3, LONGEST_WAIT_S)
        raise await self._explain(instance, revision, exited, answer, time.monotonic() - began)

    async def _tell_hint(self, instance: Instance, revision: Revision) -> None:
        port = revision.containers[0].ports[0].container_port
        if hint := listening_hint(await self._sockets(instance.id), port):
            await self._hint(revision, f"{hint}; $PORT is {port}")

    async def _explain(
        self,
        instance: Instance,
        revision: Revision,
        exited: asyncio.Future[ContainerStatus],
        answer: Answer,
        alive_s: float,
    ) -> BootError:
        container = revision.containers[0]
        ended = exited.result() if exited.done() else None
        status = ended or await self._find(instance.id)
        log = Path(status.log_path) if status and status.log_path else None
        if ended is not None:
            await asyncio.sleep(0.05)  # what it said last is on its way to the file
        return explain_boot(
            BootFacts(
                revision=revision.short_name,
                port=container.ports[0].container_port,
                alive_s=alive_s,
                ended=ended,
                probe=answer.seen,
                listening=answer.listening,
                sockets=() if ended else await self._sockets(instance.id),
                last_lines=await asyncio.to_thread(last_lines, log, instance.id) if log else (),
                memory=container.resources.limits["memory"] if container.resources else "",
            )
        )

    async def _find(self, id: str) -> ContainerStatus | None:
        found = [status for status in await self._link.list({}) if status.id == id]
        return found[0] if found else None

    async def _sockets(self, id: str) -> tuple[ListeningSocket, ...]:
        """What it listens on; nothing when it is gone by now."""
        try:
            return await self._link.sockets(id)
        except HakoError:
            return ()


async def _ask_alive(
    address: str, probe: Probe, exited: asyncio.Future[ContainerStatus]
) -> Answer | None:
    """The probe's answer; `None` when the instance ends meanwhile (its address then swallows packets)."""
    asking = asyncio.ensure_future(ask(address, probe))
    try:
        either: set[asyncio.Future[Any]] = {asking, exited}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else None
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def last_lines(log: Path, container: str) -> tuple[str, ...]:
    """The last lines that *container* printed, oldest first, without colours and other control sequences."""
    texts = [
        _CONTROL.sub("", record.text)
        for record in read_records(log)
        if record.container == container
    ]
    return tuple(text for text in texts if text.strip())[-LAST_LINES:]
