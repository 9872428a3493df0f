"""Asking an instance whether it is ready: the startup probe of its revision, over TCP or HTTP.

Connecting to a port where nobody listens costs next to nothing, so a starting instance is asked every few
milliseconds; the probe's period only bounds how often a *bad answer* may come.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hakobune.serving.template import HttpGetAction, Probe

FIRST_WAIT_S = 0.002
LONGEST_WAIT_S = 0.05
CONNECT_S = 1.0
MAX_HEAD_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What one question brought: `ready`, or in words what was seen instead.

    `listening` is false when nobody accepted a connection.
    """

    ready: bool
    seen: str
    listening: bool = True


def budget_s(probe: Probe) -> float:
    """How long an instance may take, from its start."""
    return probe.initial_delay_seconds + probe.period_seconds * probe.failure_threshold


def probed_port(probe: Probe) -> int:
    """The port that a validated probe asks at."""
    action = probe.http_get or probe.tcp_socket
    assert action is not None, "a validated probe has an action"
    return action.port


async def ask(address: str, probe: Probe) -> Answer:
    """Ask once."""
    port = probed_port(probe)
    try:
        async with asyncio.timeout(probe.timeout_seconds):
            try:
                async with asyncio.timeout(CONNECT_S):
                    reader, writer = await asyncio.open_connection(
                        address, port, limit=MAX_HEAD_BYTES
                    )
            except TimeoutError:
                return Answer(False, f"nothing accepts connections on port {port}", False)
            except OSError as error:
                return Answer(False, f"nothing listens on port {port} ({error.strerror})", False)
            try:
                if probe.http_get is None:
                    return Answer(True, f"listens on port {port}")
                return await _get(reader, writer, probe.http_get)
            finally:
                writer.close()
    except TimeoutError:
        return Answer(False, f"no answer on port {port} within {probe.timeout_seconds} s")


async def _get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, action: HttpGetAction
) -> Answer:
    """2xx and 3xx are well (Cloud Run "HTTP probes")."""
    headers = {"host": "localhost", "user-agent": "hako-probe", "connection": "close"}
    headers |= {header.name: header.value for header in action.http_headers}
    head = f"GET {action.path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    writer.write(head.encode() + b"\r\n")
    try:
        data = await reader.readuntil(b"\r\n\r\n")
        status = int(data.split(b" ", 2)[1])
    except (
        OSError,
        asyncio.IncompleteReadError,
        asyncio.LimitOverrunError,
        ValueError,
        IndexError,
    ):
        return Answer(False, f"GET {action.path} got no HTTP answer")
    if 200 <= status < 400:
        return Answer(True, f"GET {action.path} answered {status}")
    return Answer(False, f"GET {action.path} answered {status}" + await _details(reader, data))


async def _details(reader: asyncio.StreamReader, head: bytes) -> str:
    """Where an unwelcome answer points to, and the first line of its body."""
    words = ""
    for line in head.decode("latin-1").splitlines()[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "location":
            words += f", Location: {value.strip()}"
    try:
        async with asyncio.timeout(0.5):
            body = await reader.read(400)
    except (TimeoutError, OSError):
        return words
    first = body.decode("utf-8", "replace").strip().splitlines()
    return f'{words}, "{first[0][:120]}"' if first else words
