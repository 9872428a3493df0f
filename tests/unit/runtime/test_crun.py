from __future__ import annotations

import os
from pathlib import Path

import pytest

from hakobune.runtime.container import ContainerError
from hakobune.runtime.crun import Crun, explain_create_failure


@pytest.mark.parametrize(
    ("log", "kind", "words"),
    [
        ("2026-11-25T10:00:00.000000Z: executable file `/nope` not found in $PATH: No such file or directory", "no_command", "no such program"),
        ("executable file `nope` not found in $PATH: No such file or directory", "no_command", "no such program"),
        ("open executable: Permission denied", "not_executable", "not executable"),
        ("mount `proc` to `/proc`: Operation not permitted", "failed", "mount `proc`"),
        ("", "failed", "it said nothing"),
    ],
)  # fmt: skip
def test_what_crun_says_becomes_a_kind_and_a_sentence(log: str, kind: str, words: str) -> None:
    error = explain_create_failure(log, "/nope")

    assert error.kind == kind
    assert words in error.why


def test_the_binary_runs_from_a_sealed_copy(tmp_path: Path) -> None:
    import fcntl

    crun = Crun(tmp_path / "state", binary="/bin/true")

    assert fcntl.fcntl(crun.fd, 1034) == 0xF  # F_GET_SEALS
    with open("/bin/true", "rb") as file:
        assert os.pread(crun.fd, 1 << 22, 0) == file.read()
    os.close(crun.fd)


def test_starting_writes_the_fifo_and_removes_it(tmp_path: Path) -> None:
    crun = Crun(tmp_path, binary="/bin/true")
    fifo = tmp_path / "web" / "exec.fifo"
    fifo.parent.mkdir()
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    crun.start("web")

    assert os.read(reader, 10) == b"0"
    assert not fifo.exists()
    os.close(reader)
    os.close(crun.fd)


def test_what_waits_for_no_start_cannot_be_started(tmp_path: Path) -> None:
    crun = Crun(tmp_path, binary="/bin/true")
    (tmp_path / "dead").mkdir()
    os.mkfifo(tmp_path / "dead" / "exec.fifo")  # its reader has died

    for id in ("dead", "unknown"):
        with pytest.raises(ContainerError) as caught:
            crun.start(id)
        assert caught.value.kind == "phase"
    os.close(crun.fd)


def test_forgetting_twice_is_fine(tmp_path: Path) -> None:
    crun = Crun(tmp_path, binary="/bin/true")
    (tmp_path / "web").mkdir()

    crun.forget("web")
    crun.forget("web")

    assert not (tmp_path / "web").exists()
    os.close(crun.fd)


def test_a_machine_without_crun_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakobune.runtime.crun.SEARCH_PATH", str(tmp_path))

    with pytest.raises(ContainerError) as caught:
        Crun(tmp_path)

    assert caught.value.fix == "install the package crun"
