import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.digest import Digest, DigestError
from hakobune.oci.store import Store

DATA = os.urandom(300_000)
DIGEST = Digest.of(DATA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


def leave(store: Store, data: bytes, digest: Digest = DIGEST) -> None:
    """An attempt that got this far."""
    with store.partial_blob(digest) as partial:
        list(partial.kept())
        partial.write(data)


def test_what_has_come_is_there_the_next_time_and_the_blob_is_whole(store: Store):
    leave(store, DATA[:100_000])

    with store.partial_blob(DIGEST) as partial:
        assert b"".join(partial.kept()) == DATA[:100_000]
        assert partial.size == 100_000
        partial.write(DATA[100_000:])
        blob = partial.commit("x/y")

    assert (blob.digest, blob.size) == (DIGEST, len(DATA))
    assert store.read_blob(DIGEST) == DATA
    assert store.verify() == ()


def test_wrong_bytes_are_forgotten(store: Store):
    with store.partial_blob(DIGEST) as partial:
        partial.write(DATA[:-1])
        with pytest.raises(DigestError, match="damaged"):
            partial.commit("x/y")
        assert partial.size == 0
        partial.write(DATA)
        partial.commit("x/y")

    assert store.read_blob(DIGEST) == DATA


def test_nothing_stays_of_an_attempt_that_got_nothing(store: Store):
    with store.partial_blob(DIGEST):
        pass

    assert list((store.layout / ".hako" / "arriving").iterdir()) == []


def test_another_algorithm_is_stored_under_its_name(store: Store):
    digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())

    leave(store, DATA[:5], digest)
    with store.partial_blob(digest) as partial:
        list(partial.kept())
        partial.write(DATA[5:])
        partial.commit("x/y")

    assert store.has_blob(digest)
    assert store.verify() == ()


def test_who_comes_second_waits_and_finds_the_blob(store: Store):
    found: list[bool] = []

    def second() -> None:
        with store.partial_blob(DIGEST):
            found.append(store.keep_blob(DIGEST))

    with store.partial_blob(DIGEST) as partial:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)
        assert found == []
        partial.write(DATA)
        partial.commit("x/y")
    thread.join()

    assert found == [True]
    assert list((store.layout / ".hako" / "arriving").iterdir()) == []


def test_a_collection_takes_what_nobody_fetches_and_leaves_what_somebody_does(store: Store):
    other = Digest.of(b"other")
    leave(store, b"oth", other)

    with store.partial_blob(DIGEST) as partial:
        partial.write(DATA[:10])
        store.collect()
        partial.write(DATA[10:])
        partial.commit("x/y")

    assert store.has_blob(DIGEST)
    assert list((store.layout / ".hako" / "arriving").iterdir()) == []
