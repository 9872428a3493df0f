"""What a 201 promises survives a power loss: the order in which bytes, names and rows reach the disk."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hakobune.registry.manifest import digest_of
from tests.registry_world import ACTOR, World, in_world


class Recorder:
    """Notes syncs, links and commits, and does them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self._fsync, self._link = os.fsync, os.link
        monkeypatch.setattr(os, "fsync", self.fsync)
        monkeypatch.setattr(os, "link", self.link)

    def fsync(self, descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.events.append(f"sync folder {name}" if folder else "sync file")
        self._fsync(descriptor)

    def link(self, source: str | Path, target: str | Path) -> None:
        self.events.append("link")
        self._link(source, target)

    def watch(self, world: World) -> None:
        """Note what the writer of the database does."""
        writer = world.sql._writer  # type: ignore[attr-defined]  # looks inside

        def traced(statement: str) -> None:
            if statement.startswith(("COMMIT", "PRAGMA synchronous")):
                self.events.append(statement)

        writer.set_trace_callback(traced)


def test_a_blob_is_synced_linked_and_its_folder_synced_before_its_row_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)

    async def test(world: World) -> None:
        await world.metadata.begin_upload(world.repository, "web", "u", ACTOR)
        recorder.watch(world)
        recorder.events.clear()
        digest = await world.push_blob(b"data")

        placed = recorder.events.index("link", 2)  # the first try finds no folder
        assert recorder.events[0] == "sync file"
        assert recorder.events[placed:] == [
            "link",
            f"sync folder {digest[7:9]}",
            "PRAGMA synchronous=FULL",
            "COMMIT",
        ]
        assert {e for e in recorder.events[1:placed] if e.startswith("sync")} == {
            "sync folder sha256",
            "sync folder blobs",
        }

    in_world(tmp_path, test)


def test_bytes_that_are_there_already_are_promised_with_their_folder_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has linked them may not have got so far yet."""
    recorder = Recorder(monkeypatch)

    async def test(world: World) -> None:
        await world.push_blob(b"data")
        recorder.watch(world)
        recorder.events.clear()

        await world.push_blob(b"data")

        folder = digest_of(b"data")[7:9]
        assert recorder.events == ["sync file", "link", f"sync folder {folder}", "COMMIT"]

    in_world(tmp_path, test)


def test_a_manifest_is_committed_to_the_disk_and_an_uploads_offset_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(monkeypatch)

    async def test(world: World) -> None:
        await world.push_image("web", "v1")
        recorder.watch(world)
        recorder.events.clear()

        await world.metadata.begin_upload(world.repository, "web", "u", ACTOR)
        await world.metadata.save_upload("u", before=0, received=1, hash_state=None)
        await world.push_image("web", "v2")

        assert recorder.events[:3] == ["PRAGMA synchronous=NORMAL", "COMMIT", "COMMIT"]
        assert "PRAGMA synchronous=FULL" in recorder.events[3:]
        assert recorder.events[-1] == "COMMIT"
        assert "PRAGMA synchronous=NORMAL" not in recorder.events[3:]

    in_world(tmp_path, test)


def test_a_stored_blob_can_be_written_by_nobody(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        digest = await world.push_blob(b"data")

        assert stat.S_IMODE(world.path_of(digest).stat().st_mode) == 0o444

    in_world(tmp_path, test)


def test_a_stored_file_of_another_length_gives_way_to_the_right_bytes(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        digest = await world.push_blob(b"data")
        path = world.path_of(digest)
        path.unlink()
        path.write_bytes(b"dat")

        await world.push_blob(b"data")

        assert path.read_bytes() == b"data"
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    in_world(tmp_path, test)
