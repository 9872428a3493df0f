"""Fetching one blob into its arriving file: cut downloads go on where they stopped, wrong bytes never become a blob. Blocking."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from hakobune.registry.arrival import Arrival, Phase
from hakobune.registry.errors import RegistryError
from hakobune.registry.freshness import Trouble
from hakobune.registry.upstream_errors import DesertedError, FailedHereError, UpstreamError

TRIES: Final = 5
GRACE_S: Final = 2.0
_FIRST_TRIES: Final = 2  # while the client still waits for a head
_PAUSES_S: Final = (0.1, 0.5, 1.5, 4.0)
_LONGEST_ASKED_S: Final = 20.0
_PROGRESS: Final = 1 << 20  # after so many bytes, tries count from the beginning
_KEPT_SHARE: Final = 10  # a fetch that is further than a tenth is finished for its own sake
_PASSING: Final = frozenset({Trouble.UNREACHABLE, Trouble.BROKEN, Trouble.LIMITED})


class BlobStream(Protocol):
    """A blob's bytes on their way; `size` is of the whole blob, -1 if the upstream does not say."""

    size: int
    host: str

    def chunks(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


OpenAt = Callable[[int], BlobStream]
"""Asks the upstream for the bytes from there on.

Raises:
    AbsentError, UpstreamError: it does not have it; no answer.
"""


class StoppedError(Exception):
    """This process ends; another goes on."""


def download(
    arrival: Arrival, open_at: OpenAt, check_room: Callable[[int], None], stop: threading.Event
) -> None:
    """Fetch until all bytes are there and are what the digest says.

    Args:
        check_room: raises RegistryError if there is no room for so many bytes more.

    Raises:
        AbsentError, UpstreamError: the upstream does not have it, or did not give it within the tries.
        DesertedError: nobody is left to read, and little is lost.
        FailedHereError: there is no room.
        StoppedError: *stop* is set.
    """
    arrival.resume()
    if arrival.received and arrival.matches():
        # All of it was here already; whether this upstream has it is another question.
        open_at(0).close()
        arrival.verified()
        return
    host, failures, at = "", 0, arrival.received
    while True:
        try:
            host = _take(arrival, open_at, check_room, stop)
            break
        except UpstreamError as error:
            failure = error
        if failure.status == 416 and arrival.phase is Phase.BEGUN and arrival.received:
            arrival.restart()  # what was left here is longer than the blob, or whole and wrong
            continue
        arrival.publish()
        if arrival.received - at >= _PROGRESS:
            failures, at = 0, arrival.received
        failures += 1
        _pause(failure, failures, arrival, stop)
    if not arrival.matches():
        why = f"its {arrival.received} bytes are not what {arrival.digest} says"
        raise UpstreamError(Trouble.WRONG, host, why)
    arrival.verified()


def _take(
    arrival: Arrival, open_at: OpenAt, check_room: Callable[[int], None], stop: threading.Event
) -> str:
    """Take what one answer has; gives the host that gave the last bytes.

    Raises:
        UpstreamError: that was not all, or too much.
    """
    stream = open_at(arrival.received)
    try:
        if arrival.size >= 0 and stream.size not in (-1, arrival.size):
            why = f"it said {arrival.size} bytes before, and now {stream.size}"
            raise UpstreamError(Trouble.WRONG, stream.host, why)
        _check_room(check_room, stream.size - arrival.received)
        arrival.flow(stream.size)
        for data in _chunks(stream):
            if 0 <= arrival.size < arrival.received + len(data):
                why = f"it sent more than the {arrival.size} bytes it announced"
                raise UpstreamError(Trouble.WRONG, stream.host, why)
            try:
                arrival.write(data)
            except OSError as error:
                why = f"the blob cannot be written here: {error.strerror}"
                raise FailedHereError("INSUFFICIENT_STORAGE", why) from error
            _check_wish(arrival, stop)
        if 0 <= arrival.size != arrival.received:
            raise UpstreamError(Trouble.UNREACHABLE, stream.host, "it cut the connection")
        return stream.host
    finally:
        stream.close()


def _check_room(check: Callable[[int], None], size: int) -> None:
    try:
        check(max(size, 0))
    except RegistryError as error:
        raise FailedHereError(error.code, error.message) from error


def _chunks(stream: BlobStream) -> Iterator[bytes]:
    try:
        yield from stream.chunks()
    except TimeoutError as error:
        raise UpstreamError(Trouble.UNREACHABLE, stream.host, "it stopped sending") from error
    except (OSError, http.client.HTTPException) as error:
        raise UpstreamError(Trouble.UNREACHABLE, stream.host, "it cut the connection") from error


def _check_wish(arrival: Arrival, stop: threading.Event) -> None:
    if stop.is_set():
        raise StoppedError()
    early = arrival.size < 0 or arrival.received * _KEPT_SHARE < arrival.size
    if early and arrival.deserted(GRACE_S):
        raise DesertedError()


def _pause(failure: UpstreamError, failures: int, arrival: Arrival, stop: threading.Event) -> None:
    """Wait before the next try, or raise *failure* if there is none."""
    begun = arrival.phase is not Phase.BEGUN
    if failure.trouble not in _PASSING or failures >= (TRIES if begun else _FIRST_TRIES):
        raise failure
    seconds = _PAUSES_S[min(failures, len(_PAUSES_S)) - 1]
    if failure.trouble is Trouble.LIMITED:
        seconds = failure.retry_after_s or seconds
        if not begun or seconds > _LONGEST_ASKED_S:
            raise failure
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stop.wait(min(left, 0.5)):
            raise StoppedError()
        if begun:
            _check_wish(arrival, stop)
