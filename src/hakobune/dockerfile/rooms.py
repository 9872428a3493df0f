"""The rooms in which a build's commands run: one a stage and kind of network.

A room is made when it is known that a command will need it, beside the steps before that command.
"""

from __future__ import annotations

from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING

from hakobune.settings import Settings

if TYPE_CHECKING:  # a build that finds everything in its cache opens no sandbox
    from concurrent.futures import Future, ThreadPoolExecutor

    from hakobune.runtime.room import Room


class Rooms:
    """All rooms of one build. Close it when every stage has ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._expected: dict[str, bool] = {}
        self._rooms: dict[tuple[str, bool], Future[Room]] = {}
        self._openers: ThreadPoolExecutor | None = None
        self._undo = ExitStack()
        self._lock = Lock()

    def expect(self, stage: str, *, network: bool) -> None:
        """That stage has a command, which may be in the cache."""
        self._expected[stage] = network

    def prepare(self, stage: str) -> None:
        """What is expected of that stage is not in the cache: its room is made beside other work."""
        network = self._expected.pop(stage, None)
        if network is not None:
            self._open(stage, network)

    def of(self, stage: str, *, network: bool) -> Room:
        """The room of that stage, which its thread alone uses.

        Raises:
            HakoError: it cannot be made.
        """
        self._expected.pop(stage, None)
        return self._open(stage, network).result()

    def leave(self, stage: str) -> None:
        """No more commands of that stage come: its network is taken away beside other work."""
        with self._lock:
            rooms = tuple(self._rooms.items())
        for (owner, network), room in rooms:
            if owner == stage and network and room.done() and room.exception() is None:
                room.result().leave_network()

    def close(self) -> None:
        """Give everything up."""
        if self._openers is not None:
            self._openers.shutdown()
        self._undo.close()

    def _open(self, stage: str, network: bool) -> Future[Room]:
        from concurrent.futures import ThreadPoolExecutor

        with self._lock:
            room = self._rooms.get((stage, network))
            if room is None:
                self._openers = self._openers or ThreadPoolExecutor(thread_name_prefix="rooms")
                room = self._rooms[stage, network] = self._openers.submit(self._make, network)
        return room

    def _make(self, network: bool) -> Room:
        from hakobune.runtime.room import open_room

        opened = ExitStack()
        room = opened.enter_context(
            open_room(
                installation=self._settings.installation, run=self._settings.run, network=network
            )
        )
        with self._lock:
            self._undo.push(opened)
        return room
