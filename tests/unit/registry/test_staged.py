"""The file of an upload session."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hakobune.registry.errors import RegistryError
from hakobune.registry.staged import StagedFile, create_staged, lock_staged, resume_staged


def view(data: bytes) -> memoryview:
    return memoryview(data)


def resume(path: Path, offset: int, state: bytes | None) -> StagedFile:
    return resume_staged(path, lock_staged(path), offset, "sha256", state)


def test_what_is_written_is_hashed_and_in_the_file_after_a_flush(tmp_path: Path) -> None:
    staged = create_staged(tmp_path / "one", "sha256")
    for piece in (b"abc", b"", b"def" * 100_000):
        staged.write(view(piece))
    staged.flush()
    staged.close()

    data = b"abc" + b"def" * 100_000
    assert (tmp_path / "one").read_bytes() == data
    assert staged.offset == len(data)
    assert staged.digest("sha256") == f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_another_algorithm_reads_the_file(tmp_path: Path) -> None:
    staged = create_staged(tmp_path / "one", "sha256")
    staged.write(view(b"abc"))
    staged.flush()

    assert staged.digest("sha512") == f"sha512:{hashlib.sha512(b'abc').hexdigest()}"
    staged.close()


@pytest.mark.parametrize("keep_state", [True, False])
def test_a_session_goes_on_with_its_state_or_by_reading_again(
    tmp_path: Path, keep_state: bool
) -> None:
    first = create_staged(tmp_path / "one", "sha256")
    first.write(view(b"abc"))
    first.flush()
    state = first.running.state() if keep_state else None
    first.close()

    second = resume(tmp_path / "one", 3, state)
    second.write(view(b"def"))
    second.flush()
    second.close()

    assert second.digest("sha256") == f"sha256:{hashlib.sha256(b'abcdef').hexdigest()}"


def test_bytes_that_nobody_has_noted_are_cut(tmp_path: Path) -> None:
    first = create_staged(tmp_path / "one", "sha256")
    first.write(view(b"abc"))
    first.flush()
    state = first.running.state()
    first.write(view(b"lost"))
    first.flush()
    first.close()

    second = resume(tmp_path / "one", 3, state)
    second.close()

    assert (tmp_path / "one").read_bytes() == b"abc"


def test_a_file_that_is_shorter_than_promised_ends_the_session(tmp_path: Path) -> None:
    create_staged(tmp_path / "one", "sha256").close()
    descriptor = lock_staged(tmp_path / "one")

    with pytest.raises(RegistryError) as caught:
        resume_staged(tmp_path / "one", descriptor, 3, "sha256", None)
    os.close(descriptor)

    assert caught.value.code == "BLOB_UPLOAD_UNKNOWN"


def test_a_session_has_one_writer(tmp_path: Path) -> None:
    first = create_staged(tmp_path / "one", "sha256")

    with pytest.raises(RegistryError) as caught:
        lock_staged(tmp_path / "one")
    first.close()

    assert caught.value.status == 409
    os.close(lock_staged(tmp_path / "one"))


def test_a_session_that_is_gone_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        lock_staged(tmp_path / "none")

    assert caught.value.code == "BLOB_UPLOAD_UNKNOWN"


def a_sealed_session(path: Path, data: bytes) -> bytes | None:
    """A session as a commit leaves it that has linked the file and then failed; the hash's state."""
    first = create_staged(path, "sha256")
    first.write(view(data))
    first.flush()
    first.close()
    path.chmod(0o444)
    os.link(path, path.with_name("blob"))
    return first.running.state()


def test_a_file_that_may_be_a_blobs_is_copied_before_more_is_written(tmp_path: Path) -> None:
    state = a_sealed_session(tmp_path / "one", b"abc")

    second = resume(tmp_path / "one", 3, state)
    assert second.is_sealed
    second.unseal()
    second.write(view(b"def"))
    second.flush()

    assert not second.is_sealed
    assert (tmp_path / "blob").read_bytes() == b"abc"
    assert (tmp_path / "one").read_bytes() == b"abcdef"
    assert second.digest("sha512") == f"sha512:{hashlib.sha512(b'abcdef').hexdigest()}"
    with pytest.raises(RegistryError):
        lock_staged(tmp_path / "one")
    second.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blob", "one"]


def test_a_file_that_may_be_a_blobs_is_not_cut(tmp_path: Path) -> None:
    """A power loss may have undone the row, not the file."""
    first = create_staged(tmp_path / "one", "sha256")
    first.write(view(b"abc"))
    first.flush()
    state = first.running.state()
    first.write(view(b"def"))
    first.flush()
    first.close()
    (tmp_path / "one").chmod(0o444)
    os.link(tmp_path / "one", tmp_path / "blob")

    second = resume(tmp_path / "one", 3, state)

    assert not second.is_sealed
    second.close()
    assert (tmp_path / "blob").read_bytes() == b"abcdef"
    assert (tmp_path / "one").read_bytes() == b"abc"


def while_it_is_opened(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something between the opening and the locking of a file."""
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        act()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)


def test_who_has_opened_a_file_that_was_then_copied_does_not_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = a_sealed_session(tmp_path / "one", b"abc")
    second = resume(tmp_path / "one", 3, state)

    while_it_is_opened(monkeypatch, second.unseal)
    with pytest.raises(RegistryError) as caught:
        lock_staged(tmp_path / "one")
    second.close()

    assert caught.value.status == 409


def test_who_has_opened_a_file_whose_session_then_ended_finds_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_staged(tmp_path / "one", "sha256").close()

    while_it_is_opened(monkeypatch, (tmp_path / "one").unlink)
    with pytest.raises(RegistryError) as caught:
        lock_staged(tmp_path / "one")

    assert caught.value.code == "BLOB_UPLOAD_UNKNOWN"
