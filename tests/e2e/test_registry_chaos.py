"""The registry's workers, keeper and parent killed with -9 while images are pushed and pulled through HAProxy."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hakobune.iam.owner_token import load_token, owner_token_path
from hakobune.runtime.supervisor_client import SupervisorClient
from tests.e2e.installation import Installation
from tests.e2e.small_installation import small_installation
from tests.registry_client import Answer, RegistryHttp, digest_of, image_manifest

pytestmark = pytest.mark.needs_root

SECONDS = 6.0
TRIES = 5  # docker's for a layer, up and down; a manifest it sends and fetches once


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One whose registry collects garbage all the time."""
    folder = tmp_path_factory.mktemp("chaos")
    with small_installation(folder, HAKO_REGISTRY_GRACE="2") as installation:
        installation.hako("serve")
        yield installation


def registry_pid(installation: Installation) -> int:
    with SupervisorClient(installation.home / "run" / "supervisor.sock") as supervisor:
        found = next(p for p in supervisor.programs() if p.name == "registry")
    assert found.pid is not None
    return found.pid


def children(installation: Installation, *, keeper: bool) -> list[int]:
    """The workers or the keeper: the keeper is the nice one."""
    pid = registry_pid(installation)
    pids = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    own = os.getpriority(os.PRIO_PROCESS, pid)
    return [p for p in pids if (os.getpriority(os.PRIO_PROCESS, p) > own) is keeper]


VICTIMS: dict[str, Callable[[Installation, random.Random], int]] = {
    "worker": lambda i, chance: chance.choice(children(i, keeper=False)),
    "keeper": lambda i, chance: chance.choice(children(i, keeper=True)),
    "parent": lambda i, _: registry_pid(i),
}


@dataclass
class Docker:
    """A client that tries again where docker does, and nowhere else; what it was told is there, and what it saw fail."""

    url: str
    authorization: str
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    blobs: dict[tuple[str, str], int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def work(self, number: int) -> None:
        """Push an image, pull one that was pushed, until told to end."""
        turn = random.Random(number)
        round = 0
        while not self.ended.is_set() and not self.failures:
            round += 1
            try:
                self.push(f"hako/chaos{number % 2}/i{number}", f"t{round}", turn)
                self.pull(*turn.choice(list(self.tags)))
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(f"{number}, round {round}: {error!r}")

    def push(self, name: str, tag: str, turn: random.Random) -> None:
        layers = (turn.randbytes(turn.randrange(1, 300_000)), b"of all", b"{}")
        for data in layers:
            self._again(lambda data=data: self._push_layer(name, data))
            self.blobs[name, digest_of(data)] = len(data)
        body = image_manifest([(digest_of(data), len(data)) for data in layers])
        with self._connected() as http:
            _expect(http.push_manifest(name, tag, body), 201)
        self.tags[name, tag] = digest_of(body)

    def pull(self, name: str, tag: str) -> None:
        with self._connected() as http:
            manifest = _expect(http.send("GET", f"/v2/{name}/manifests/{tag}"), 200).body
        assert digest_of(manifest) == self.tags[name, tag]
        for layer in json.loads(manifest)["layers"]:
            data = self._again(lambda layer=layer: self._pull_layer(name, layer["digest"]))
            assert digest_of(data) == layer["digest"]

    def _push_layer(self, name: str, data: bytes) -> bytes:
        with self._connected() as http:
            begun = _expect(http.send("POST", f"/v2/{name}/blobs/uploads/"), 202)
            location = begun.header("location")
            _expect(http.send("PATCH", location, iter([data])), 202)
            _expect(http.send("PUT", location, parameters=[("digest", digest_of(data))]), 201)
            _expect(http.send("HEAD", f"/v2/{name}/blobs/{digest_of(data)}"), 200)
        return data

    def _pull_layer(self, name: str, digest: str) -> bytes:
        with self._connected() as http:
            return _expect(http.send("GET", f"/v2/{name}/blobs/{digest}"), 200).body

    def _again(self, act: Callable[[], bytes]) -> bytes:
        for left in reversed(range(TRIES)):
            try:
                return act()
            except (OSError, http.client.HTTPException, AssertionError):
                if not left:
                    raise
                time.sleep(0.3)
        raise AssertionError("unreachable")

    def _connected(self) -> RegistryHttp:
        return RegistryHttp(self.url, authorization=self.authorization, timeout_s=30)


def _expect(answer: Answer, status: int) -> Answer:
    assert answer.status == status, (answer.status, answer.body[:300])
    return answer


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_of_the_registry_fails_no_push_and_no_pull_and_loses_nothing(
    installation: Installation, victim: str
) -> None:
    token = load_token(owner_token_path(installation.home))
    docker = Docker(f"http://localhost:{installation.port}", f"Bearer {token}")
    docker.push("hako/chaos0/i0", "first", random.Random(victim))
    chance = random.Random(victim)
    kills = 0

    with ThreadPoolExecutor(3) as threads:
        working = [threads.submit(docker.work, number) for number in range(3)]
        try:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not docker.failures:
                time.sleep(chance.uniform(0.3, 0.9))
                with contextlib.suppress(OSError, IndexError, StopIteration, AssertionError):
                    os.kill(VICTIMS[victim](installation, chance), signal.SIGKILL)
                    kills += 1
        finally:
            docker.ended.set()
        for one in working:
            one.result()

    assert docker.failures == []
    assert kills > 2
    assert len(docker.tags) > 3
    for name, tag in docker.tags:
        docker.pull(name, tag)
    for (name, digest), size in docker.blobs.items():
        assert len(docker._pull_layer(name, digest)) == size
    verified = installation.hako("registry", "verify", "--format", "json").stdout
    assert json.loads(verified)["problems"] == []
