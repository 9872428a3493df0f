"""The rooms in which a build's commands run: one a stage and kind of network, made when the first command needs it."""

from __future__ import annotations

from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING

from hakobune.settings import Settings

if TYPE_CHECKING:  # a build that finds everything in its cache opens no sandbox
    from hakobune.runtime.room import Room


class Rooms:
    """All rooms of one build. Close it when every stage has ended."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rooms: dict[tuple[str, bool], Room] = {}
        self._undo = ExitStack()
        self._lock = Lock()

    def of(self, stage: str, *, network: bool) -> Room:
        """The room of that stage, which its thread alone uses.

        Raises:
            HakoError: it cannot be made.
        """
        from hakobune.runtime.room import open_room

        room = self._rooms.get((stage, network))
        if room is None:
            opened = ExitStack()
            room = opened.enter_context(
                open_room(
                    installation=self._settings.installation,
                    run=self._settings.run,
                    network=network,
                )
            )
            with self._lock:
                self._rooms[stage, network] = room
                self._undo.push(opened)
        return room

    def leave(self, stage: str) -> None:
        """No more commands of that stage come: its network is taken away beside other work."""
        for (owner, network), room in tuple(self._rooms.items()):
            if owner == stage and network:
                room.leave_network()

    def close(self) -> None:
        """Give everything up."""
        self._undo.close()
