"""Requests at a steady rate against the ingress, each on its own connection, until told to stop."""

from __future__ import annotations

import http.client
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request came to; status 0 means that no answer came, and `body` says why."""

    sent: float
    seconds: float
    status: int
    body: bytes


@dataclass(slots=True)
class Load:
    """GET requests to one host name at `rate` a second; a context manager.

    Usage::

        with Load(port, "shop.localhost", rate=50) as load:
            ...
        assert load.failures() == []
    """

    port: int
    host: str
    rate: float = 50
    path: str = "/"
    timeout_s: float = 30
    patience_s: float = (
        0  # how long a request that got no answer is sent again, as clients do with a GET
    )
    answers: list[Answer] = field(default_factory=list)
    refused: int = 0  # connections on which nobody listened
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Load:
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None  # set on entry
        self._thread.join()

    def failures(self) -> list[Answer]:
        """The requests that were not answered with 200."""
        return [answer for answer in self.answers if answer.status != 200]

    def bodies(self) -> set[bytes]:
        return {answer.body for answer in self.answers if answer.status == 200}

    def percentile(self, share: float) -> float:
        """Seconds within which *share* (0.99) of the answered requests came back."""
        taken = sorted(answer.seconds for answer in self.answers)
        return taken[min(len(taken) - 1, int(len(taken) * share))]

    def _send(self) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(max_workers=200) as pool:
            number = 0
            while not self._stop.is_set():
                pool.submit(self._ask)
                number += 1
                pause = began + number / self.rate - time.monotonic()
                if pause > 0:
                    self._stop.wait(pause)

    def _ask(self) -> None:
        end = time.monotonic() + self.patience_s
        while True:
            answer = ask(self.port, self.host, self.path, timeout_s=self.timeout_s)
            self.refused += b"ConnectionRefused" in answer.body and not answer.status
            if answer.status or time.monotonic() > end:
                self.answers.append(answer)
                return
            time.sleep(0.02)


def ask(
    port: int, host: str, path: str = "/", *, timeout_s: float = 30, address: str = "127.0.0.1"
) -> Answer:
    """One GET on a connection of its own."""
    began = time.monotonic()
    connection = http.client.HTTPConnection(address, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Host": host, "Connection": "close"})
        response = connection.getresponse()
        status, body = response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        status, body = 0, repr(error).encode()
    finally:
        connection.close()
    return Answer(began, time.monotonic() - began, status, body)


def burst(port: int, host: str, count: int, *, path: str = "/") -> list[Answer]:
    """*count* requests at the same moment; the answers in the order they were sent."""
    gate = threading.Barrier(count)

    def one(_: int) -> Answer:
        gate.wait()
        return ask(port, host, path)

    with ThreadPoolExecutor(max_workers=count) as pool:
        return list(pool.map(one, range(count)))
