from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.errors import HakoError
from hakobune.registry.sockets import open_sockets
from hakobune.settings import Settings


@pytest.fixture
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="hk-", dir="/tmp") as home:
        yield Settings.from_environment(
            {"HAKO_HOME": home, "HAKO_REGISTRY_LISTEN": "off"}, uid=os.getuid()
        )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_alone_it_opens_its_sockets_and_its_port(settings: Settings) -> None:
    port = free_port()

    sockets = open_sockets(replace(settings, registry_listen=("127.0.0.1", port)), {})

    try:
        assert [s.getsockname() for s in sockets.own_port] == [("127.0.0.1", port)]
        assert sockets.owner.getsockname() == str(settings.registry_socket)
        assert sockets.proxy.getsockname() == str(settings.registry_tcp_socket)
        assert stat.S_IMODE(settings.registry_socket.stat().st_mode) == 0o660
    finally:
        sockets.close()


def test_what_a_dead_registry_has_left_is_replaced(settings: Settings) -> None:
    open_sockets(settings, {}).close()

    open_sockets(settings, {}).close()


def test_a_port_that_is_taken_is_named(settings: Settings) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(HakoError, match=r"cannot listen on 127\.0\.0\.1") as refused,
    ):
        open_sockets(replace(settings, registry_listen=other.getsockname()), {})

    assert "in use" in refused.value.why
    assert not settings.registry_socket.exists()


INHERITS = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from hakobune.registry.sockets import open_sockets
from hakobune.settings import Settings
sockets = open_sockets(Settings.from_environment(os.environ, uid=os.getuid()), os.environ)
print(sockets.owner.getsockname().rpartition("/")[2], sockets.proxy.getsockname().rpartition("/")[2], len(sockets.own_port), "LISTEN_FDS" in os.environ)
"""


def test_those_of_the_supervisor_are_known_by_their_addresses(settings: Settings) -> None:
    held = open_sockets(replace(settings, registry_listen=("127.0.0.1", free_port())), {})
    given = [held.proxy, held.own_port[0], held.owner]
    # The shell moves them out of the way first: a target may be another one's source.
    moved = " ".join(f"{200 + n}<&{s.fileno()}" for n, s in enumerate(given))
    places = " ".join(f"{3 + n}<&{200 + n}" for n in range(len(given)))
    try:
        done = subprocess.run(
            ["bash", "-c", f'exec {moved}; exec "$0" -c "$1" {places}', sys.executable, INHERITS],
            env={
                **os.environ,
                "HAKO_HOME": str(settings.home),
                "HAKO_REGISTRY_LISTEN": "off",
                "LISTEN_FDS": "3",
                "PYTHONPATH": str(Path(__file__).parents[3] / "src"),
            },
            pass_fds=[s.fileno() for s in given],
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        held.close()

    assert done.stdout == "registry.sock registry-tcp.sock 1 False\n", done.stderr
