"""Blobs from upstreams, each fetched once however many ask: single flight over all worker processes.

Whoever gets the lock of `arrival` fetches, in a thread; everybody follows the file, in whatever process. If the fetching
process dies, one of the followers goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from hakobune.oci.digest import Digest
from hakobune.registry.arrival import Arrival, Phase, State, begin_arrival
from hakobune.registry.download import OpenAt, StoppedError, download
from hakobune.registry.errors import RegistryError
from hakobune.registry.freshness import Trouble
from hakobune.registry.growing import Growing, Growth
from hakobune.registry.inotify import Watcher
from hakobune.registry.upstream_errors import (
    AbsentError,
    DesertedError,
    FailedHereError,
    UpstreamError,
    from_note,
)

# At the same time, and of one repository: a slow upstream does not use up what the others need.
DOWNLOADS: Final = 64
DOWNLOADS_OF_ONE: Final = 24
CALLS: Final = 48
CALLS_OF_ONE: Final = 12
_HEAD_LIMIT_S: Final = 120.0  # all tries of a fetch until its upstream has answered
_QUEUE_S: Final = 10.0
_LANES: Final = 4096
_ROUNDS: Final = 20
_RESCUE_S: Final = (0.0, 0.02, 0.1, 0.5, 2.0)
_T = TypeVar("_T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What there is to fetch.

    Attributes:
        repository: id of the repository that it is fetched for.
        open_at: asks its upstream; called in a thread.
        commit: stores the verified file and links it to the repository.
        is_known: whether the blob is stored and linked by now.
        check_room: raises RegistryError if there is no room for so many bytes more.
    """

    digest: Digest
    repository: int
    open_at: OpenAt
    commit: Callable[[Digest, Path, int], Awaitable[None]]
    is_known: Callable[[], Awaitable[bool]]
    check_room: Callable[[int], None]


class Fetches:
    """The fetches of one worker process. `close` leaves what is under way to the others."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        # Apart, so that long downloads keep no question waiting.
        self._downloads: ThreadPoolExecutor | None = None
        self._calls: ThreadPoolExecutor | None = None
        self._watcher: Watcher | None = None
        self._growths: dict[Digest, Growth] = {}
        self._lanes: dict[tuple[str, int], asyncio.Semaphore] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = threading.Event()

    async def ask(self, repository: int, call: Callable[[], _T]) -> _T:
        """Run a blocking call to a repository's upstream in a thread.

        Raises:
            UpstreamError: the calls before it take too long.
        """
        lane = self._lane("ask", repository, CALLS_OF_ONE)
        try:
            async with asyncio.timeout(_QUEUE_S):
                await lane.acquire()
        except TimeoutError as error:
            why = "too many questions to it are still without an answer"
            raise UpstreamError(Trouble.UNREACHABLE, "the upstream", why) from error
        try:
            return await self.run(call)
        finally:
            lane.release()

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run a short blocking call in a thread."""
        if self._calls is None:
            self._calls = ThreadPoolExecutor(CALLS, thread_name_prefix="upstream")
        return await self._loop.run_in_executor(self._calls, call)

    async def open(self, job: Job, *, prove: Callable[[], Awaitable[None]]) -> Growing | None:
        """Fetch the blob, or follow who does; returns when the upstream has answered.

        Args:
            prove: called if it is being fetched for another repository: raises if *job*'s upstream does not have it.

        Returns:
            `None` if the blob is stored by now: ask the database again.

        Raises:
            AbsentError, UpstreamError: the upstream does not have it; no answer.
            RegistryError: the fetch failed here.
        """
        proved = False
        for _ in range(_ROUNDS):
            arrival = begin_arrival(self._folder, job.digest, job.repository)
            if arrival is not None:
                if await self._is_known(job, arrival):
                    return None
                self._start(job, arrival)
            growth = self._grow(job)
            if growth is None:
                return None
            growth.hold()
            try:
                if arrival is None and not proved and growth.state().repository != job.repository:
                    await prove()
                    proved = True
                state = await self._begun(growth)
                if state.phase is not Phase.FAILED:
                    return await self._follow(growth, state)
            finally:
                growth.release()
            failure = from_note(state.note)
            if isinstance(failure, FailedHereError):
                raise failure.answer()
            if not isinstance(failure, DesertedError):
                raise failure
        raise UpstreamError(
            Trouble.UNREACHABLE, "the upstream", "the fetch was given up again and again"
        )

    async def close(self) -> None:
        """Stop fetching; files and readers stay as they are."""
        self._stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=35)
        for task in self._tasks:
            task.cancel()
        for threads in (self._downloads, self._calls):
            if threads is not None:
                threads.shutdown(wait=False, cancel_futures=True)
        if self._watcher is not None:
            self._watcher.close()

    # Fetching

    async def _is_known(self, job: Job, arrival: Arrival) -> bool:
        """Under the lock: whether another has committed it before we got the lock."""
        try:
            known = await job.is_known()
        except BaseException:
            arrival.leave()
            raise
        if known:
            arrival.end()
        return known

    def _start(self, job: Job, arrival: Arrival) -> None:
        self._growths.pop(job.digest, None)
        self._spawn(self._fetch(job, arrival))

    async def _fetch(self, job: Job, arrival: Arrival) -> None:
        try:
            await self._download(job, arrival)
        except (AbsentError, UpstreamError, DesertedError, FailedHereError) as error:
            wrong = isinstance(error, UpstreamError) and error.trouble is Trouble.WRONG
            arrival.fail(error.to_note(), forget=wrong or isinstance(error, FailedHereError))
            logger.info("fetch failed", extra={"digest": str(job.digest), "why": str(error)})
            return
        except StoppedError:
            arrival.leave()
            return
        except Exception:
            logger.exception("fetch failed here", extra={"digest": str(job.digest)})
            here = FailedHereError("UNKNOWN", f"fetching {job.digest} has failed here")
            arrival.fail(here.to_note(), forget=False)
            return
        try:
            await job.commit(job.digest, arrival.path, arrival.received)
        except Exception:  # who reads has it all the same
            logger.exception("a blob is not kept", extra={"digest": str(job.digest)})
        finally:
            arrival.end()

    async def _download(self, job: Job, arrival: Arrival) -> None:
        if self._downloads is None:
            self._downloads = ThreadPoolExecutor(DOWNLOADS, thread_name_prefix="download")
        async with self._lane("download", job.repository, DOWNLOADS_OF_ONE):
            await self._loop.run_in_executor(
                self._downloads, download, arrival, job.open_at, job.check_room, self._stop
            )

    def _lane(self, kind: str, repository: int, width: int) -> asyncio.Semaphore:
        """How much of one repository may be under way."""
        if len(self._lanes) > _LANES:
            self._lanes = {key: lane for key, lane in self._lanes.items() if lane.locked()}
        return self._lanes.setdefault((kind, repository), asyncio.Semaphore(width))

    # Following

    def _grow(self, job: Job) -> Growth | None:
        growth = self._growths.get(job.digest)
        if growth is not None and not growth.closed:
            if growth.state().phase is not Phase.FAILED:
                return growth
            del self._growths[job.digest]
        try:
            if self._watcher is None:
                self._watcher = Watcher(self._loop)
            growth = Growth(self._folder, job.digest, self._watcher)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise RegistryError(
                "UNAVAILABLE",
                f"the registry cannot follow a file that is being fetched: {error.strerror} "
                "(sysctl fs.inotify.max_user_instances, fs.inotify.max_user_watches)",
            ) from error
        growth.orphaned = lambda: self._spawn(self._rescue(job, growth))
        growth.forgotten = lambda: self._forget(growth)
        self._growths[job.digest] = growth
        return growth

    def _forget(self, growth: Growth) -> None:
        if self._growths.get(growth.digest) is growth:
            del self._growths[growth.digest]

    async def _begun(self, growth: Growth) -> State:
        """The state as soon as there is something to tell a client."""
        try:
            async with asyncio.timeout(_HEAD_LIMIT_S):
                while True:
                    state = growth.state()
                    if state.phase >= Phase.VERIFIED or state.size >= 0:
                        return state
                    await growth.changed()
        except TimeoutError as error:
            raise UpstreamError(
                Trouble.UNREACHABLE, "the upstream", "it does not answer"
            ) from error

    async def _follow(self, growth: Growth, state: State) -> Growing | None:
        size = state.received if state.phase is Phase.VERIFIED else state.size
        try:
            return Growing(growth, size)
        except FileNotFoundError:
            pass  # it is being committed
        try:
            async with asyncio.timeout(_HEAD_LIMIT_S):
                while not growth.ended():
                    await growth.changed()
        except TimeoutError:
            pass
        return None

    async def _rescue(self, job: Job, growth: Growth) -> None:
        """Go on with a fetch whose process is gone, unless another follower does."""
        for seconds in _RESCUE_S:
            await asyncio.sleep(seconds)
            if growth.closed or growth.state().phase >= Phase.VERIFIED:
                return
            arrival = begin_arrival(self._folder, job.digest, job.repository)
            if arrival is not None:
                self._spawn(self._fetch(job, arrival))
                return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._stop.is_set():
            work.close()
            return
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
