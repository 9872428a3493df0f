"""Mount namespaces that are cut off from the host's, and work done in one for a moment."""

from __future__ import annotations

import array
import errno
import os
import socket
from collections.abc import Callable

from hakobune.runtime import linux


def make_mounts_private() -> None:
    """Cut this mount namespace off: nothing that happens in it reaches the host, nor back."""
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)


def in_private_mount_namespace(work: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """The descriptors that *work* returns from a child with a mount namespace of its own, gone afterwards.

    Raises:
        OSError: what *work* raised.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        child = os.fork()
        if child == 0:
            ours.close()
            try:
                linux.unshare(linux.CLONE_NEWNS)
                make_mounts_private()
                socket.send_fds(theirs, [b"ok"], list(work()))
            except OSError as error:
                theirs.send(f"{error.errno or 0} {error.strerror}".encode())
            finally:
                os._exit(0)
        theirs.close()
        try:
            message, fds, _, _ = socket.recv_fds(ours, 4096, 8)
        finally:
            os.waitpid(child, 0)
    if message != b"ok":
        number, _, text = message.decode(errors="replace").partition(" ")
        raise OSError(int(number or errno.EIO), text or "the mounting process died")
    for fd in fds:
        os.set_inheritable(fd, False)
    return tuple(array.array("i", fds))
