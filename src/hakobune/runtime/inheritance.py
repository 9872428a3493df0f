"""What a supervisor keeps over an upgrade: its lock, its sockets and the host's mount namespace, as descriptors over `execve`."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

from hakobune.errors import HakoError
from hakobune.runtime import linux
from hakobune.runtime.server import listen
from hakobune.settings import Settings
from hakobune.support.locks import try_exclusive

_MS_SLAVE = 1 << 19
_VARIABLE = "HAKO_SUPERVISOR_INHERITED"
_SOCKET = "socket of "
# Children that a killed supervisor had just forked hold its lock until they have noticed, too.
_LOCK_S = 2.0


class AlreadyRunningError(HakoError):
    """Another supervisor serves this `HAKO_HOME`."""


def read_inheritance() -> dict[str, int]:
    """What an upgrade left us, made private again."""
    kept: dict[str, int] = json.loads(os.environ.pop(_VARIABLE, "{}"))
    for fd in kept.values():
        os.set_inheritable(fd, False)
    return kept


def hand_over(
    module: str,
    *,
    listener: int,
    lock: int,
    host_mounts: int,
    sockets: Mapping[str, Mapping[str, int]],
) -> NoReturn:
    """Become *module* of what is installed now, with these descriptors.

    Args:
        sockets: of programs, by their names and addresses.
    """
    kept = {"listener": listener, "lock": lock, "host_mounts": host_mounts}
    for name, own in sockets.items():
        kept |= {f"{_SOCKET}{name} {address}": fd for address, fd in own.items()}
    for fd in kept.values():
        os.set_inheritable(fd, True)
    env = {**os.environ, _VARIABLE: json.dumps(kept)}
    os.execve(sys.executable, [sys.executable, "-I", "-m", module], env)


def take_lock(settings: Settings, inherited: Mapping[str, int]) -> int:
    """The lock of the one supervisor.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    if "lock" in inherited:
        return inherited["lock"]
    deadline = time.monotonic() + _LOCK_S
    while (lock := try_exclusive(settings.run / "supervisor.lock")) is None:
        if time.monotonic() > deadline:
            raise AlreadyRunningError(
                f"a supervisor already serves {settings.home}", fix="run `hako serve --stop` first"
            )
        time.sleep(0.02)
    return lock


def enter_own_mounts(inherited: Mapping[str, int]) -> int:
    """A mount namespace of our own that still follows the host's; the descriptor leads back to the host's."""
    if "host_mounts" in inherited:
        return inherited["host_mounts"]
    host = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | _MS_SLAVE)
    return host


def open_listener(settings: Settings, inherited: Mapping[str, int]) -> socket.socket:
    """The socket at which the supervisor is asked."""
    if "listener" in inherited:
        return socket.socket(fileno=inherited["listener"])
    return listen(settings.supervisor_socket)


def kept_sockets(inherited: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The programs' listening sockets, by name and address."""
    kept: dict[str, dict[str, int]] = {}
    for what, fd in inherited.items():
        if what.startswith(_SOCKET):
            name, address = what.removeprefix(_SOCKET).split(" ", 1)
            kept.setdefault(name, {})[address] = fd
    return kept
