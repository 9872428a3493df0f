"""The process between a sandbox's owner and its pid 1: makes the namespaces, and ends everything when the owner says so or is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from threading import Lock
from typing import NoReturn

from hakobune.runtime import linux
from hakobune.runtime.cgroup import Cgroup
from hakobune.runtime.mount_namespace import make_mounts_private
from hakobune.runtime.sandbox_init import be_init, forget_signals
from hakobune.runtime.sandbox_plan import Plan

# A sandbox made in one thread must not inherit the end of a pipe that another thread is about to close.
FORKS = Lock()
END = signal.SIGUSR1  # from the owner, or from the kernel when the owner is gone


def fork_setup(
    plan: Plan,
    ours: socket.socket,
    theirs: socket.socket,
    *,
    netns_fd: int,
    at_start: Callable[[], None],
) -> int:
    """Fork it; its pid. `END` ends it with all that is inside, and the caller waits for it.

    Args:
        ours, theirs: the two ends of the line to pid 1, which answers `READY` or says why not.
        at_start: called in the new process before anything else is made.
    """
    owner = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    with FORKS:
        pid = os.fork()
    if pid == 0:
        ours.close()
        _set_up(plan, theirs, netns_fd, owner, at_start)
    return pid


def remove_cgroup(cgroup: Cgroup) -> None:
    """The kernel lets the group go a moment after its last process."""
    deadline = time.monotonic() + 1.0
    while not cgroup.remove() and time.monotonic() < deadline:
        time.sleep(0.001)


def _set_up(
    plan: Plan, peer: socket.socket, netns_fd: int, owner: int, at_start: Callable[[], None]
) -> NoReturn:
    """In the first child: namespaces, then pid 1; end it when the owner says so or is gone. Does not return.

    This process stays outside of the cgroup and of the pid namespace, so that it can clean up: neither the
    build's limits nor anything inside reaches it. If it is killed itself, pid 1 has a death signal.
    """
    try:
        forget_signals()
        signal.pthread_sigmask(signal.SIG_BLOCK, (END, signal.SIGCHLD))
        linux.prctl(linux.PR_SET_PDEATHSIG, END)
        if os.getppid() != owner:
            os._exit(1)  # the owner died before the signal was set
        os.setsid()  # Ctrl-C is the owner's
        at_start()
        linux.setns(netns_fd, linux.CLONE_NEWNET)
        linux.unshare(
            linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
        )
        make_mounts_private()
        init = os.fork()
        if init == 0:
            be_init(plan, peer)
        peer.close()
        os.close(plan.root_fd)
        while os.waitpid(init, os.WNOHANG) == (0, 0):
            if signal.sigwait((END, signal.SIGCHLD)) == END:
                os.kill(init, signal.SIGKILL)
        if plan.cgroup is not None:
            remove_cgroup(plan.cgroup)
    except BaseException as error:
        with contextlib.suppress(OSError):
            peer.send(f"{type(error).__name__}: {error}".encode()[:4096])
    finally:
        os._exit(0)
