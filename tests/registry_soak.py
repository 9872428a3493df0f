"""Pushes, pulls and deletes of a few blobs again and again while the collector runs all the time: nothing may be missed.

    .venv/bin/python -m tests.registry_soak [--seconds N] [--grace-s N] [--pushers N] [--database URL] [--storage URL]

The layers come from a small pool, so that each is now garbage, now pushed again, now found by a HEAD, now mounted from another
repository. Whoever was promised a blob uses the promise at once, as clients do; a promise older than the grace is none
(such a push is done again, and counted as late).
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

from tests.registry_client import RegistryHttp, digest_of, image_manifest
from tests.registry_server import HakoRegistry, hako_registry

POOL = [random.Random(number).randbytes(2000 + 9000 * (number % 16)) for number in range(240)]
DIGESTS = [digest_of(data) for data in POOL]
KEPT = 2  # images a pusher leaves standing
WINDOW = 12  # layers that are pushed often, for half a second; others come when they are garbage


class SoakError(Exception):
    """Something that was promised is not there."""


@dataclass
class Soak:
    """What has happened so far."""

    registry: HakoRegistry
    grace_s: float
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    images: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def count(self, event: str) -> None:
        with self.lock:
            self.counts[event] += 1

    def run(self, seconds: float, pushers: int) -> None:
        """Until the time is over or something is missed."""
        with ThreadPoolExecutor(pushers + 1) as threads:
            work = [threads.submit(self._repeat, n, self._push_and_forget) for n in range(pushers)]
            work.append(threads.submit(self._repeat, pushers, self._pull))
            end = time.monotonic() + seconds
            try:
                while time.monotonic() < end and not self.failures:
                    time.sleep(0.1)
            finally:
                self.ended.set()
            for one in work:
                one.result()

    def _repeat(self, number: int, act: Callable[[RegistryHttp, random.Random, int], None]) -> None:
        turn = random.Random(1000 + number)
        try:
            with self.registry.as_owner() as http:
                while not self.ended.is_set():
                    act(http, turn, number)
        except Exception as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            self.ended.set()

    # Pushing

    def _push_and_forget(self, http: RegistryHttp, turn: random.Random, number: int) -> None:
        repository = f"soak/r{number % 2}"
        name = f"{repository}/i{number}"
        begun = time.monotonic()
        layers = self._choose(turn, begun)
        for layer in layers:
            self._push_layer(http, turn, name, layer, f"soak/r{(number + 1) % 2}/i0")
        config = http.push_blob(name, b"{}")
        assert config == digest_of(b"{}")
        body = image_manifest(
            [(DIGESTS[layer], len(POOL[layer])) for layer in layers],
            annotations={"turn": str(turn.random())},
        )
        answer = http.push_manifest(name, digest_of(body), body)
        if answer.code == "MANIFEST_BLOB_UNKNOWN" and time.monotonic() - begun > self.grace_s * 0.7:
            self.count("late pushes")
            return
        if answer.status != 201:
            raise SoakError(
                f"a push has failed after {time.monotonic() - begun:.3f} s: {answer.body!r}"
            )
        self.count("pushes")
        with self.lock:
            self.images[name, digest_of(body)] = layers
        self._check_image(http, name, digest_of(body), layers)
        self._forget(http, name, KEPT)

    def _choose(self, turn: random.Random, now: float) -> list[int]:
        """Mostly some of a few that change; each of the others about once in the time that makes it garbage."""
        first = int(now * 2) * WINDOW
        recent = [(first + number) % len(POOL) for number in range(WINDOW)]
        return turn.sample(
            recent if turn.random() < 0.8 else range(len(POOL)), turn.randrange(1, 4)
        )

    def _push_layer(
        self, http: RegistryHttp, turn: random.Random, name: str, layer: int, other: str
    ) -> None:
        digest = DIGESTS[layer]
        if turn.random() < 0.8 and http.send("HEAD", f"/v2/{name}/blobs/{digest}").status == 200:
            self.count("blobs found")
            return
        if turn.random() < 0.3:
            mounted = http.send(
                "POST",
                f"/v2/{name}/blobs/uploads/",
                parameters=[("mount", digest), ("from", other)],
            )
            if mounted.status == 201:
                self.count("blobs mounted")
                return
            location = mounted.header("location")
            done = http.send("PUT", location, POOL[layer], parameters=[("digest", digest)])
            if done.status != 201:
                raise SoakError(f"an upload after a mount has failed: {done.body!r}")
        else:
            http.push_blob(name, POOL[layer])
        self.count("blobs pushed")

    def _check_image(self, http: RegistryHttp, name: str, digest: str, layers: list[int]) -> None:
        for layer in layers:
            answer = http.send("GET", f"/v2/{name}/blobs/{DIGESTS[layer]}")
            if answer.status != 200 or answer.body != POOL[layer]:
                raise SoakError(
                    f"{name}@{digest} was pushed, and {DIGESTS[layer]} is {answer.status}"
                )

    def _forget(self, http: RegistryHttp, name: str, kept: int) -> None:
        """Delete all but the last *kept* images of *name*."""
        with self.lock:
            own = [key for key in self.images if key[0] == name]
            old = own[: len(own) - kept]
        for key in old:
            answer = http.send("DELETE", f"/v2/{name}/manifests/{key[1]}")
            if answer.status != 202:
                raise SoakError(f"{name}@{key[1]} cannot be deleted: {answer.body!r}")
            with self.lock:
                del self.images[key]
            self.count("deletes")

    # Pulling

    def _pull(self, http: RegistryHttp, turn: random.Random, number: int) -> None:
        with self.lock:
            images = list(self.images.items())
        if not images:
            time.sleep(0.05)
            return
        (name, digest), layers = turn.choice(images)
        if http.send("GET", f"/v2/{name}/manifests/{digest}").status != 200:
            return
        for layer in layers:
            answer = http.send("GET", f"/v2/{name}/blobs/{DIGESTS[layer]}")
            if answer.status == 200:
                if answer.body != POOL[layer]:
                    raise SoakError(f"{DIGESTS[layer]} has other bytes")
            elif http.send("GET", f"/v2/{name}/manifests/{digest}").status == 200:
                raise SoakError(f"{name}@{digest} is there, and its {DIGESTS[layer]} is not")
        self.count("pulls")

    # The end

    def check_end(self) -> None:
        """What stands is whole; when it is deleted, everything goes."""
        with self.registry.as_owner() as http:
            for (name, digest), layers in self.images.items():
                self._check_image(http, name, digest, layers)
            for name in {name for name, _ in self.images}:
                self._forget(http, name, 0)
        if self.registry.environment.get("HAKO_REGISTRY_STORAGE"):
            return
        end = time.monotonic() + 10 * self.grace_s + 20
        while left := self._files():
            if time.monotonic() > end:
                raise SoakError(f"{len(left)} files are never collected: {left[:3]}")
            time.sleep(0.1)

    def _files(self) -> list[str]:
        """Files of blobs, and those that were moved to the trash."""
        found = []
        for folder in ("blobs", "trash"):
            for path in (self.registry.home / "registry" / folder).rglob("*"):
                if path.is_file():
                    if folder == "blobs":
                        try:
                            data = path.read_bytes()
                        except FileNotFoundError:
                            continue
                        if sha256(data).hexdigest() != path.name:
                            raise SoakError(f"{path} has other bytes")
                    found.append(path.name)
        return found

    def collected(self) -> int:
        """Blobs that the keeper says it has removed."""
        import json

        total = 0
        for line in self.registry.log.read_text().splitlines():
            if '"blobs collected"' in line:
                total += json.loads(line)["blobs"]
        return total


def soak(
    seconds: float,
    *,
    grace_s: float = 2.0,
    pushers: int = 4,
    environment: Mapping[str, str] | None = None,
) -> Soak:
    """Run one to its end.

    Raises:
        SoakError: something that was promised was not there.
    """
    with hako_registry(
        environment={**(environment or {}), "HAKO_REGISTRY_GRACE": str(grace_s)}
    ) as registry:
        made = Soak(registry, grace_s)
        made.run(seconds, pushers)
        if made.failures:
            raise SoakError("; ".join(made.failures) + f" after {dict(made.counts)}")
        made.check_end()
        made.counts["blobs collected"] = made.collected()
        return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--grace-s", type=float, default=2)
    parser.add_argument("--pushers", type=int, default=4)
    parser.add_argument("--database", default="")
    parser.add_argument("--storage", default="")
    arguments = parser.parse_args()
    environment = {
        name: text
        for name, text in (
            ("HAKO_REGISTRY_DATABASE", arguments.database),
            ("HAKO_REGISTRY_STORAGE", arguments.storage),
        )
        if text
    }
    done = soak(
        arguments.seconds,
        grace_s=arguments.grace_s,
        pushers=arguments.pushers,
        environment=environment,
    )
    for event, count in sorted(done.counts.items()):
        print(f"{count:9} {event}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
