"""A few things at once: bounded, in order of input, and all stopped by the first failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

WORKERS: Final = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Stopped(Exception):
    """Another part of the same transfer failed; nobody gets to see this."""


class StopSign:
    """Raised by `check` in every thread after one has failed."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def check(self) -> None:
        if self._event.is_set():
            raise Stopped


def run_all(
    work: Callable[[_Item], _Result], items: Iterable[_Item], stop: StopSign
) -> tuple[_Result, ...]:
    """*work* on every item in a few threads; results in the order of the items.

    Raises:
        the first error of any; *stop* has been set and the threads have ended, except after Ctrl-C.
    """
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="transfer")
    futures = [pool.submit(work, item) for item in items]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        _raise_first(futures)
        return tuple(future.result() for future in futures)
    except KeyboardInterrupt:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    except BaseException:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    finally:
        pool.shutdown(wait=False)


def _raise_first(futures: Iterable[Future[_Result]]) -> None:
    for future in futures:
        if future.done() and not future.cancelled():
            error = future.exception()
            if error is not None and not isinstance(error, Stopped):
                raise error
