"""The running HAProxy: brought to a routing table over its runtime socket, never reloaded, its files kept true."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hakobune.errors import HakoError
from hakobune.serving.haproxy_commands import (
    Known,
    MapChange,
    SlotLoad,
    closing_commands,
    map_changes,
    opening_commands,
    parse_loads,
    parse_map,
    parse_servers,
    superfluous_servers,
)
from hakobune.serving.haproxy_files import StartUp, start_up_files
from hakobune.serving.ingress import MAPS, RoutingTable, slot_name
from hakobune.support.files import write_atomically

TIMEOUT_S = 5.0
LINGER_S = 15.0  # longer than a request can be on its way between two servers
_GOOD = re.compile(
    r"|New server registered\.|Server deleted\.|New version created: \d+|.*is already.*", re.I
)

logger = logging.getLogger(__name__)


class HAProxyError(HakoError):
    """HAProxy does not answer on its runtime socket, or refuses a command."""


class HAProxy:
    """One HAProxy process, seen through its runtime socket. For one asyncio loop.

    Its files are rewritten after each change, so that one that is started again alone comes back serving.
    """

    def __init__(self, start: StartUp) -> None:
        self.start = start
        self._known: Known | None = None
        self._lock = asyncio.Lock()
        self._written: RoutingTable | None = None
        self._closed: dict[str, float] = {}  # superfluous servers, and since when

    async def write_files(self, table: RoutingTable) -> None:
        """Put every start-up file in place, each by rename; nothing is written when nothing changed."""
        if table == self._written:
            return
        await asyncio.to_thread(self._write_files, table)
        self._written = table

    async def apply(self, table: RoutingTable) -> None:
        """Bring the running HAProxy to *table*; idempotent. Instances are opened first, closed last.

        Raises:
            HAProxyError: it does not answer or refuses. What it knows is read anew the next time.
        """
        async with self._lock:
            try:
                await self._apply(table)
            except BaseException:
                self._known = None
                raise

    async def forget(self) -> None:
        """Assume nothing: another process answers on the socket now."""
        async with self._lock:
            self._known = None

    async def loads(self, slots: Iterable[int]) -> dict[int, SlotLoad]:
        """What runs and waits in each of *slots* now."""
        commands = [f"show stat {slot_name(slot)} 6 -1" for slot in slots]
        return parse_loads(await self._ask(commands)) if commands else {}

    def occupied_slots(self) -> frozenset[int]:
        """Slots in which HAProxy still has an instance, as far as is known."""
        known = self._known or Known()
        return frozenset(slot for slot, there in known.servers.items() if there)

    async def read(self) -> Known:
        """What the running process knows, read anew."""
        async with self._lock:
            return await self._read_known()

    async def pid(self) -> int:
        """The process that serves. The same for its whole life: nothing here reloads it."""
        match = re.search(r"^Pid: (\d+)$", await self._ask(["show info"]), re.M)
        if match is None:
            raise HAProxyError("HAProxy does not say which process it is")
        return int(match[1])

    async def _apply(self, table: RoutingTable) -> None:
        known = self._known or await self._read_known()
        changes = map_changes(known, table, self.start.map_path)
        routing = [command for change in changes for command in change.commands]
        await self._tell([*opening_commands(known, table), *routing])
        for change in changes:
            if change.swap:
                await self._swap(change)
        await self._tell(closing_commands(known, table))
        self._known = Known(
            table.maps(),
            {
                slot: dict.fromkeys(known.servers.get(slot, {}), False)
                | {server.name: server.usable for server in table.servers.get(slot, ())}
                for slot in known.servers.keys() | table.servers.keys()
            },
        )
        await self._delete_superfluous(table)

    async def _delete_superfluous(self, table: RoutingTable) -> None:
        """Forget instances that have been gone for a while; one with a request under way is tried again later.

        Until then its slot has an owner: a request that failed on it waits up to a second before it finds the way back.
        """
        assert self._known is not None
        now = time.monotonic()
        names = superfluous_servers(self._known, table)
        self._closed = {name: self._closed.get(name, now) for name in names}
        gone = []
        for name in names:
            if now - self._closed[name] < LINGER_S:
                continue
            answer = await self._ask([f"set server {name} state maint", f"del server {name}"])
            if "deleted" in answer or "No such" in answer:
                gone.append(name)
        servers = {
            slot: {n: u for n, u in there.items() if f"{slot_name(slot)}/{n}" not in gone}
            for slot, there in self._known.servers.items()
        }
        self._known = replace(self._known, servers=servers)

    async def _read_known(self) -> Known:
        maps = {}
        for name in MAPS:
            maps[name] = parse_map(await self._ask([f"show map {self.start.map_path(name)}"]))
        known = Known(maps, parse_servers(await self._ask(["show servers state"])))
        self._known = known
        return known

    async def _swap(self, change: MapChange) -> None:
        """Replace a whole map in one instant."""
        path = self.start.map_path(change.name)
        match = re.search(r"created: (\d+)", await self._ask([f"prepare map {path}"]))
        if match is None:
            raise HAProxyError(f"HAProxy cannot prepare the map {path}")
        lines = [f"{key} {value}" for key, value in sorted(change.entries.items())]
        for i in range(0, len(lines), 200):  # a command fits in one of HAProxy's buffers
            payload = "\n".join(lines[i : i + 200])
            await self._tell([f"add map @{match[1]} {path} <<\n{payload}\n"])
        await self._tell([f"commit map @{match[1]} {path}"])

    async def _tell(self, commands: Sequence[str]) -> None:
        """Send commands that answer nothing of interest.

        Raises:
            HAProxyError: one of them is refused.
        """
        if not commands:
            return
        answer = await self._ask(commands)
        bad = [line for line in answer.splitlines() if not _GOOD.fullmatch(line.strip())]
        if bad:
            raise HAProxyError("HAProxy refuses a command", why=f"{bad[0]} ({'; '.join(commands)})")

    async def _ask(self, commands: Sequence[str]) -> str:
        """Everything HAProxy answers to *commands*, in order."""
        path = self.start.runtime_socket
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 24)
                try:
                    writer.write((";".join(commands) + "\n").encode())
                    return (await reader.read(-1)).decode()
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise HAProxyError("HAProxy does not answer", why=f"{path}: {error}") from error

    def _write_files(self, table: RoutingTable) -> None:
        (self.start.folder / "again").mkdir(parents=True, exist_ok=True)
        for path, data in start_up_files(self.start, table).items():
            try:
                if path.read_bytes() == data:
                    continue
            except OSError:
                pass
            write_atomically(path, data)
