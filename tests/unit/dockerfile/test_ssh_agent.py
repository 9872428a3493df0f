"""A lent agent: what passes, and that its socket ends with the block."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from threading import Thread

import pytest

from hakobune.dockerfile.ssh_agent import SocketAgent, lent_agent, may_pass

LIST = struct.pack(">IB", 1, 11)
IDENTITIES = struct.pack(">IBI", 5, 12, 0)
FAILURE = struct.pack(">IB", 1, 5)


@pytest.mark.parametrize(("kind", "passes"), [(11, True), (13, True), (17, False), (19, False), (22, False), (27, False)])  # fmt: skip
def test_only_questions_pass(kind: int, passes: bool) -> None:
    assert may_pass(bytes([kind]) + b"rest") is passes
    assert not may_pass(b"")


def an_agent(path: Path, answers: int) -> Thread:
    """Answers every request with an empty list of keys."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as client:
            for _ in range(answers):
                assert client.recv(5) == LIST
                client.sendall(IDENTITIES)

    thread = Thread(target=serve)
    thread.start()
    return thread


def test_questions_are_answered_by_the_agent_and_changes_are_refused(tmp_path: Path) -> None:
    agent = an_agent(tmp_path / "real", answers=2)
    folder = tmp_path / ("long" * 30) / "lent"
    with lent_agent(
        SocketAgent(tmp_path / "real"), folder, owner=(os.getuid(), os.getgid()), mode=0o600
    ):
        client = socket.socket(socket.AF_UNIX)
        directory = os.open(folder, os.O_RDONLY)
        client.connect(f"/proc/self/fd/{directory}/agent")
        os.close(directory)
        with client:
            answers = []
            for request in (LIST, struct.pack(">IB", 1, 19), LIST):
                client.sendall(request)
                answers.append(client.recv(9))
    agent.join()

    assert answers == [IDENTITIES, FAILURE, IDENTITIES]
    directory = os.open(folder, os.O_RDONLY)
    # Which error it is depends on the kernel.
    with socket.socket(socket.AF_UNIX) as late, pytest.raises(OSError):
        late.connect(f"/proc/self/fd/{directory}/agent")
    os.close(directory)
