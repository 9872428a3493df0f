import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.oci.digest import Digest
from hakobune.registry import download as downloading
from hakobune.registry.arrival import TAIL_SIZE, data_path
from hakobune.registry.errors import RegistryError
from hakobune.registry.fetch import Fetches, Job
from hakobune.registry.freshness import Trouble
from hakobune.registry.growing import BrokenBodyError, Growing
from hakobune.registry.upstream_errors import AbsentError, UpstreamError

DATA = os.urandom(1 << 20)
DIGEST = Digest.of(DATA)
PIECE = 64 << 10


class Stream:
    """A part of *data*; at *cut* the connection ends. `gate` is waited for before each piece."""

    host = "upstream.test"

    def __init__(self, data: bytes, offset: int, *, cut: int = -1, gate: Callable[[int], None]):
        self.size = len(data)
        self._data, self._offset, self._cut, self._gate = data, offset, cut, gate

    def chunks(self) -> Iterator[bytes]:
        at = self._offset
        while at < len(self._data):
            if 0 <= self._cut <= at:
                raise ConnectionResetError
            self._gate(at)
            end = min(at + PIECE, len(self._data), self._cut if self._cut > at else len(self._data))
            yield self._data[at:end]
            at = end

    def close(self) -> None: ...


class Upstream:
    """Gives *data*, noting from where it was asked."""

    def __init__(self, data: bytes = DATA, *, cuts: tuple[int, ...] = ()) -> None:
        self.data, self.cuts = data, list(cuts)
        self.asked: list[int] = []
        self.gate: Callable[[int], None] = lambda at: None

    def open_at(self, offset: int) -> Stream:
        self.asked.append(offset)
        cut = self.cuts.pop(0) if self.cuts else -1
        return Stream(self.data, offset, cut=cut, gate=lambda at: self.gate(at))


class Shelf:
    """Where blobs are committed to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "committed"
        self.room = 1 << 40

    def job(self, upstream: Upstream, repository: int = 1, digest: Digest = DIGEST) -> Job:
        return Job(
            digest, repository, upstream.open_at, self.commit, self.is_known, self.check_room
        )

    def check_room(self, size: int) -> None:
        if size > self.room:
            raise RegistryError("INSUFFICIENT_STORAGE", "the disk is full")

    async def commit(self, digest: Digest, path: Path, size: int) -> None:
        os.link(path, self.path)

    async def is_known(self) -> bool:
        return self.path.exists()


@contextlib.asynccontextmanager
async def fetches(folder: Path) -> AsyncIterator[Fetches]:
    found = Fetches(folder / "partial")
    try:
        yield found
    finally:
        await found.close()


async def never_asked() -> None:
    raise AssertionError("nothing has to be proved")


async def read_all(growing: Growing) -> bytes:
    """As a sender does: what may be sent, when it may."""
    found = bytearray()
    try:
        while len(found) < growing.size:
            upto = await growing.wait(len(found))
            found += os.pread(growing.file, upto - len(found), len(found))
        return bytes(found)
    finally:
        growing.close()


async def get(found: Fetches, job: Job) -> bytes:
    growing = await found.open(job, prove=never_asked)
    if growing is None:
        assert await job.is_known()
        return (found._folder.parent / "committed").read_bytes()
    return await read_all(growing)


def run(work: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))  # type: ignore[arg-type]


def test_many_readers_of_one_blob_are_one_transfer(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)

    async def work() -> None:
        async with fetches(tmp_path) as one, fetches(tmp_path) as other:
            upstream.gate = lambda at: time.sleep(0.002)
            jobs = [get(f, shelf.job(upstream)) for f in (one, other) for _ in range(8)]
            bodies = await asyncio.gather(*jobs)
            assert all(body == DATA for body in bodies)

    run(work)
    assert upstream.asked == [0]
    assert shelf.path.read_bytes() == DATA
    assert list((tmp_path / "partial").iterdir()) == []


def test_the_first_bytes_are_sent_before_the_last_have_come_and_the_tail_only_when_all_is_right(
    tmp_path: Path,
):
    upstream, shelf = Upstream(), Shelf(tmp_path)
    go_on = threading.Event()
    upstream.gate = lambda at: None if at == 0 else (go_on.wait(10) and None)

    async def work() -> None:
        async with fetches(tmp_path) as found:
            growing = await found.open(shelf.job(upstream), prove=never_asked)
            assert growing is not None
            assert growing.size == len(DATA)
            assert await growing.wait(0) == PIECE
            seen: list[int] = []
            go_on.set()
            while not seen or seen[-1] < len(DATA):
                seen.append(await growing.wait(seen[-1] if seen else 0))
            assert all(n <= len(DATA) - TAIL_SIZE for n in seen[:-1])
            growing.close()

    run(work)


def test_wrong_bytes_never_complete_and_are_forgotten(tmp_path: Path):
    upstream, shelf = Upstream(b"<html>" + DATA[6:]), Shelf(tmp_path)
    gate = threading.Event()
    upstream.gate = lambda at: gate.wait(10) and None

    async def work() -> None:
        async with fetches(tmp_path) as found:
            growing = await found.open(shelf.job(upstream), prove=never_asked)
            assert growing is not None
            gate.set()
            with pytest.raises(BrokenBodyError, match="are not what"):
                await read_all(growing)

    run(work)
    assert not shelf.path.exists()
    assert list((tmp_path / "partial").iterdir()) == []


def test_readers_in_another_process_do_not_get_wrong_bytes_either(tmp_path: Path):
    upstream, shelf = Upstream(DATA[:-1] + b"!"), Shelf(tmp_path)
    gate = threading.Event()
    upstream.gate = lambda at: gate.wait(10) and None

    async def work() -> None:
        async with fetches(tmp_path) as one, fetches(tmp_path) as other:
            readers = [await f.open(shelf.job(upstream), prove=never_asked) for f in (one, other)]
            gate.set()
            for growing in readers:
                assert growing is not None
                with pytest.raises(BrokenBodyError):
                    await read_all(growing)
            assert not one._growths
            assert not other._growths

    run(work)


def test_an_upstream_that_does_not_say_how_long_it_is_is_waited_for(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)

    class Endless(Stream):
        size = -1

        def __init__(self, offset: int) -> None:
            super().__init__(DATA, offset, gate=lambda at: None)
            self.size = -1

    async def work() -> None:
        async with fetches(tmp_path) as found:
            job = replace(shelf.job(upstream), open_at=Endless)
            assert await get(found, job) == DATA

    run(work)
    assert shelf.path.read_bytes() == DATA


def test_a_digest_may_be_of_sha512(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)
    digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())

    async def work() -> None:
        async with fetches(tmp_path) as found:
            assert await get(found, shelf.job(upstream, digest=digest)) == DATA

    run(work)
    assert shelf.path.read_bytes() == DATA


def test_small_wrong_bytes_are_not_sent_at_all(tmp_path: Path):
    upstream, shelf = Upstream(b"<html>sorry</html>"), Shelf(tmp_path)
    gate = threading.Event()
    upstream.gate = lambda at: gate.wait(10) and None

    async def work() -> None:
        async with fetches(tmp_path) as found:
            growing = await found.open(shelf.job(upstream), prove=never_asked)
            assert growing is not None
            gate.set()
            with pytest.raises(BrokenBodyError):
                await growing.wait(0)
            growing.close()

    run(work)


def test_a_cut_transfer_goes_on_where_it_stopped(tmp_path: Path):
    upstream, shelf = Upstream(cuts=(100_000, 300_000)), Shelf(tmp_path)

    async def work() -> None:
        async with fetches(tmp_path) as found:
            assert await get(found, shelf.job(upstream)) == DATA

    run(work)
    assert upstream.asked == [0, 100_000, 300_000]


def test_an_upstream_that_always_cuts_is_given_up_and_what_came_is_kept_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(downloading, "_PAUSES_S", (0.0,))
    upstream, shelf = Upstream(cuts=(100_000,) * 5), Shelf(tmp_path)
    gate = threading.Event()
    upstream.gate = lambda at: gate.wait(10) and None

    async def work() -> None:
        async with fetches(tmp_path) as found:
            growing = await found.open(shelf.job(upstream), prove=never_asked)
            assert growing is not None
            gate.set()
            with pytest.raises(BrokenBodyError, match="cut the connection"):
                await read_all(growing)
            assert await get(found, shelf.job(upstream)) == DATA

    run(work)
    assert upstream.asked == [0, *[100_000] * 5]


def test_errors_before_the_first_byte_reach_everybody_who_asks(tmp_path: Path):
    shelf = Shelf(tmp_path)
    entered, answer = threading.Event(), threading.Event()

    class Limited(Upstream):
        def open_at(self, offset: int) -> Stream:
            self.asked.append(offset)
            entered.set()
            answer.wait(10)
            raise UpstreamError(Trouble.LIMITED, "upstream.test", "429", retry_after_s=77)

    upstream = Limited()

    async def work() -> None:
        async with fetches(tmp_path) as one, fetches(tmp_path) as other:
            first = asyncio.create_task(one.open(shelf.job(upstream), prove=never_asked))
            while not entered.is_set():
                await asyncio.sleep(0.01)
            second = asyncio.create_task(other.open(shelf.job(upstream), prove=never_asked))
            await asyncio.sleep(0.05)
            answer.set()
            for task in (first, second):
                with pytest.raises(UpstreamError) as caught:
                    await task
                assert (caught.value.trouble, caught.value.retry_after_s) == (Trouble.LIMITED, 77)

    run(work)
    assert upstream.asked == [0]


def test_a_blob_for_which_there_is_no_room_is_not_begun(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)
    shelf.room = len(DATA) - 1

    async def work() -> None:
        async with fetches(tmp_path) as found:
            with pytest.raises(RegistryError, match="the disk is full") as caught:
                await found.open(shelf.job(upstream), prove=never_asked)
            assert caught.value.status == 507
            shelf.room += 1
            assert await get(found, shelf.job(upstream)) == DATA

    run(work)


def test_what_cannot_be_stored_is_read_all_the_same(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)
    gate = threading.Event()
    upstream.gate = lambda at: gate.wait(10) and None

    async def work() -> None:
        async with fetches(tmp_path) as found:
            job = replace(shelf.job(upstream), commit=failing)
            growing = await found.open(job, prove=never_asked)
            assert growing is not None
            gate.set()
            assert await read_all(growing) == DATA

    async def failing(digest: Digest, path: Path, size: int) -> None:
        raise RegistryError("DENIED", "the quota is full")

    run(work)
    assert not shelf.path.exists()


def test_a_reader_for_another_repository_must_have_it_upstream_too(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)
    gate = threading.Event()
    upstream.gate = lambda at: gate.wait(10) and None

    async def absent() -> None:
        raise AbsentError("other.test")

    async def work() -> None:
        async with fetches(tmp_path) as found:
            mine = asyncio.create_task(get(found, shelf.job(upstream, repository=1)))
            await asyncio.sleep(0.05)
            with pytest.raises(AbsentError):
                await found.open(shelf.job(upstream, repository=2), prove=absent)
            gate.set()
            assert await mine == DATA

    run(work)


def test_a_fetch_that_nobody_reads_ends_early_and_one_that_is_far_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(downloading, "GRACE_S", 0.1)
    upstream, shelf = Upstream(os.urandom(4 << 20)), Shelf(tmp_path)
    digest = Digest.of(upstream.data)
    upstream.gate = lambda at: time.sleep(0.05 if at < 1 << 20 else 0)

    async def leave_after(found: Fetches, count: int) -> None:
        growing = await found.open(shelf.job(upstream, digest=digest), prove=never_asked)
        assert growing is not None
        await growing.wait(count)
        growing.close()
        while list((tmp_path / "partial").glob("*.state")):
            await asyncio.sleep(0.01)

    async def work() -> None:
        async with fetches(tmp_path) as found:
            await leave_after(found, 0)
            assert not shelf.path.exists()
            kept = data_path(tmp_path / "partial", digest).stat().st_size
            assert 0 < kept < len(upstream.data) // 10
            await leave_after(found, len(upstream.data) // 8)
            assert upstream.asked == [0, kept]

    run(work)
    assert shelf.path.read_bytes() == upstream.data


def _fetch_slowly(folder: Path, shelf_folder: Path) -> None:
    upstream, shelf = Upstream(Path(shelf_folder, "data").read_bytes()), Shelf(shelf_folder)

    def gate(at: int) -> None:
        time.sleep(0.01 if at < 512 << 10 else 60)

    upstream.gate = gate

    async def work() -> None:
        found = Fetches(folder / "partial")
        digest = Digest.of(upstream.data)
        await get(found, shelf.job(upstream, digest=digest))

    asyncio.run(work())


def test_if_the_fetching_process_is_killed_a_reader_in_another_goes_on_where_it_stopped(
    tmp_path: Path,
):
    (tmp_path / "data").write_bytes(DATA)
    shelf = Shelf(tmp_path)
    upstream = Upstream()
    process = multiprocessing.get_context("spawn").Process(
        target=_fetch_slowly, args=(tmp_path, tmp_path)
    )
    process.start()

    async def work() -> None:
        async with fetches(tmp_path) as found:
            while not data_path(tmp_path / "partial", DIGEST).exists():
                await asyncio.sleep(0.02)
            growing = await found.open(shelf.job(upstream), prove=never_asked)
            assert growing is not None
            await growing.wait(128 << 10)
            os.kill(process.pid or 0, signal.SIGKILL)
            assert await read_all(growing) == DATA
            for _ in range(100):
                if shelf.path.exists():
                    return
                await asyncio.sleep(0.02)

    try:
        run(work)
    finally:
        process.kill()
        process.join()
        process.close()
    assert shelf.path.read_bytes() == DATA
    assert len(upstream.asked) == 1
    assert upstream.asked[0] > 128 << 10


def test_a_whole_file_that_was_left_is_asked_for_and_not_fetched_again(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)
    partial = tmp_path / "partial"
    partial.mkdir()
    data_path(partial, DIGEST).write_bytes(DATA)

    async def work() -> None:
        async with fetches(tmp_path) as found:
            assert await get(found, shelf.job(upstream)) == DATA

    run(work)
    assert shelf.path.read_bytes() == DATA


def test_what_is_committed_meanwhile_is_not_fetched(tmp_path: Path):
    upstream, shelf = Upstream(), Shelf(tmp_path)
    shelf.path.write_bytes(DATA)

    async def work() -> None:
        async with fetches(tmp_path) as found:
            assert await found.open(shelf.job(upstream), prove=never_asked) is None

    run(work)
    assert upstream.asked == []
