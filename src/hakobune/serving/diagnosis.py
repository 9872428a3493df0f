"""Why an instance is not well, in words (pure): what was seen, which address it really listens on, how it ended, what it said last."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass

from hakobune.errors import HakoError
from hakobune.runtime.container import ContainerStatus, ListeningSocket

LAST_LINES = 5
_EVERYWHERE = ("0.0.0.0", "::")


class BootError(HakoError):
    """An instance ended, or did not become ready, while it started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BootFacts:
    """What is known of an instance that did not become ready.

    Args:
        port: the port that was probed. alive_s: how long it was watched.
        ended: its status if it has ended. probe: the last answer, in words.
        listening: whether the last probe found anybody there.
    """

    revision: str
    port: int
    alive_s: float
    ended: ContainerStatus | None
    probe: str
    listening: bool
    sockets: Sequence[ListeningSocket]
    last_lines: Sequence[str]
    memory: str = ""


def explain_boot(facts: BootFacts) -> BootError:
    """One line of what, and lines of `seen`, `fix` and `log`: what was logged last, then what before it, oldest first."""
    what, seen, fix = _verdict(facts)
    lines = [what, f"  seen   {seen}"]
    if fix:
        lines.append(f"  fix    {fix}")
    if facts.last_lines:
        lines.append(f"  log    last: {facts.last_lines[-1]}")
        lines += [f"         before: {line}" for line in facts.last_lines[:-1]]
    return BootError("\n".join(lines))


def describe_exit(status: ContainerStatus, *, memory: str = "") -> str:
    """How a container ended: `ran out of memory (limit 512Mi)`, `exited with code 3`, `was ended by SIGSEGV`."""
    if status.oom_killed:
        return "ran out of memory" + (f" (limit {memory})" if memory else "")
    if status.signal:
        return f"was ended by {_signal_name(status.signal)}"
    if status.exit_code is None:
        return "ended while nobody watched"
    return f"exited with code {status.exit_code}"


def describe_ready(seconds: float, sockets: Sequence[ListeningSocket], port: int) -> str:
    """`uvicorn listens on 0.0.0.0:8080 after 0.6 s`."""
    for socket in sockets:
        if socket.port == port:
            who = program_name(socket.command) or "it"
            return f"{who} listens on {_endpoint(socket)} after {seconds:.1f} s"
    return f"ready after {seconds:.1f} s"


def program_name(command: str) -> str:
    """What people call a running program: `gunicorn` for `python -m gunicorn main:app`, `node` for `/usr/bin/node x.js`."""
    words = command.split()
    if not words:
        return ""
    if words[0].rpartition("/")[2].startswith("python") and "-m" in words[1:-1]:
        return words[words.index("-m") + 1]
    return words[0].rpartition("/")[2]


def listening_hint(sockets: Sequence[ListeningSocket], port: int) -> str:
    """Which address it listens on instead; empty if it listens nowhere, or as it should."""
    if not sockets or any(s.port == port and s.address in _EVERYWHERE for s in sockets):
        return ""
    return "listens on " + ", ".join(sorted({_endpoint(s) for s in sockets})) + " only"


def _verdict(facts: BootFacts) -> tuple[str, str, str]:
    """What, seen, fix."""
    name, port = facts.revision, facts.port
    if facts.ended is not None:
        how = describe_exit(facts.ended, memory=facts.memory)
        fix = "hako deploy --memory …" if facts.ended.oom_killed else ""
        return (
            f"{name} {how} before it was ready",
            f"{how} after {facts.alive_s:.1f} s; {facts.probe}",
            fix,
        )
    hint = listening_hint(facts.sockets, port)
    if not facts.listening:
        who = _who(facts.sockets)
        seen = f"{who}alive {facts.alive_s:.0f} s; {hint or f'listens on no port, {facts.probe}'}"
        return f"{name} does not listen on $PORT ({port})", seen, _listen_fix(facts.sockets, port)
    seen = f"alive {facts.alive_s:.0f} s; {facts.probe}" + (f"; {hint}" if hint else "")
    return f"{name} did not pass its startup probe", seen, ""


def _listen_fix(sockets: Sequence[ListeningSocket], port: int) -> str:
    if any(s.port == port for s in sockets):
        return f"listen on 0.0.0.0:{port}, not on the loopback address"
    if len({s.port for s in sockets}) == 1:
        return f"listen on 0.0.0.0 and the port in $PORT, or deploy with --port {sockets[0].port}"
    return "listen on 0.0.0.0 and the port in $PORT"


def _who(sockets: Sequence[ListeningSocket]) -> str:
    for socket in sockets:
        if socket.command and socket.pid:
            return f"{socket.command} (pid {socket.pid}) "
    return ""


def _endpoint(socket: ListeningSocket) -> str:
    host = f"[{socket.address}]" if ":" in socket.address else socket.address
    return f"{host}:{socket.port}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
