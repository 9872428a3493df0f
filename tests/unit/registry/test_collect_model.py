"""The collector against a model: whatever happens in whatever order, what was promised or is named is there, and the rest goes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hakobune.registry.errors import RegistryError
from hakobune.registry.manifest import digest_of
from tests.registry_world import ACTOR, GRACE_S, image_body, new_sqlite, open_world

T = TypeVar("T")
WAIT_S = 600.0
BLOBS = [b"{}", b"one", b"two", b"three"]
blobs = st.sampled_from(BLOBS)
images = st.sampled_from(["a", "b"])
passing = st.sampled_from([1.0, WAIT_S + 1, GRACE_S / 2, GRACE_S + 1])


class CollectorMachine(RuleBasedStateMachine):
    """Pushes, questions, deletions and time; the collector between them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="hk-model-"))
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.world = self.run_(
            self.stack.enter_async_context(open_world(new_sqlite(self.folder), self.folder))
        )
        self.promised: dict[str, int] = {}  # digest → when last
        self.named: dict[tuple[str, str], set[str]] = {}  # image, manifest → blobs

    def run_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.everything_unnamed_goes()
        finally:
            self.run_(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.folder)

    @rule(data=blobs)
    def push(self, data: bytes) -> None:
        digest = self.run_(self.world.push_blob(data))
        self.promised[digest] = self.world.clock.now

    @rule(data=blobs)
    def ask(self, data: bytes) -> None:
        digest = digest_of(data)
        found = self.run_(self.world.metadata.find_blob(self.world.repository, digest))
        assert found is not None or digest not in self.kept()
        if found is not None:
            # It may have been promised a quarter of the grace ago, and is not written again.
            quarter = int(GRACE_S * 1_000_000) // 4
            self.promised[digest] = found.promised_until - quarter
            assert self.promised[digest] >= self.world.clock.now - quarter

    @rule(image=images, layers=st.sets(blobs))
    def put(self, image: str, layers: set[bytes]) -> None:
        body = image_body(sorted(layers))
        children = {digest_of(data) for data in {b"{}", *layers}}
        try:
            put = self.run_(self.world.put(image, body))
        except RegistryError:
            assert not children <= self.kept()
        else:
            self.named[image, put.digest] = children

    @rule(image=images, layers=st.sets(blobs))
    def delete(self, image: str, layers: set[bytes]) -> None:
        digest = digest_of(image_body(sorted(layers)))
        delete = self.world.metadata.delete_manifest(self.world.repository, image, digest, ACTOR)
        if (image, digest) in self.named:
            self.run_(delete)
            del self.named[image, digest]
        else:
            with pytest.raises(RegistryError):
                self.run_(delete)

    @rule(seconds=st.lists(passing, min_size=1, max_size=2))
    def wait(self, seconds: list[float]) -> None:
        for passed in seconds:
            self.world.clock.pass_s(passed)
            self.run_(self.world.collector(WAIT_S).run())

    @rule(seconds=passing)
    def pause(self, seconds: float) -> None:
        self.world.clock.pass_s(seconds)

    @invariant()
    def what_is_kept_is_there(self) -> None:
        for digest in self.kept():
            assert self.world.path_of(digest).exists()

    def kept(self) -> set[str]:
        """What must be there now: named, or promised within the grace."""
        young = self.world.clock.now - int(GRACE_S * 1_000_000)
        named = {digest for children in self.named.values() for digest in children}
        return named | {digest for digest, at in self.promised.items() if at > young}

    def everything_unnamed_goes(self) -> None:
        for seconds in (GRACE_S + 1, WAIT_S, 1):
            self.world.clock.pass_s(seconds)
            self.run_(self.world.collector(WAIT_S).run())
        for data in BLOBS:
            assert self.world.path_of(digest_of(data)).exists() is (digest_of(data) in self.kept())


TestCollector = CollectorMachine.TestCase
TestCollector.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
