"""Real mounts for tests: detached, so they live as long as their descriptor and nothing needs an unmount."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_CLOEXEC = 1
# Rule 1 of facts/overlay.md.
_OPTIONS = {"redirect_dir": "on", "metacopy": "off", "index": "off", "xino": "off"}


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


@contextmanager
def overlay(lowers: Sequence[Path], top: Path) -> Iterator[Path]:
    """The merged view of *lowers* (uppermost first) under `top/up`, with the options of a build's top."""
    (top / "up").mkdir(parents=True)
    (top / "wk").mkdir()
    strings = [("lowerdir+", str(lower)) for lower in lowers]
    strings += [("upperdir", f"{top}/up"), ("workdir", f"{top}/wk"), *_OPTIONS.items()]
    with _mounted("overlay", strings, flags=("volatile",)) as merged:
        yield merged


@contextmanager
def tiny_disk(size_bytes: int) -> Iterator[Path]:
    """A file system of its own that is full soon."""
    with _mounted("tmpfs", [("size", str(size_bytes)), ("mode", "755")]) as disk:
        yield disk


@contextmanager
def _mounted(
    kind: str, strings: Sequence[tuple[str, str]], flags: Sequence[str] = ()
) -> Iterator[Path]:
    fs = _call(_FSOPEN, kind.encode(), _CLOEXEC)
    try:
        for key, value in strings:
            _call(_FSCONFIG, fs, _SET_STRING, key.encode(), value.encode(), 0)
        for flag in flags:
            _call(_FSCONFIG, fs, _SET_FLAG, flag.encode(), None, 0)
        _call(_FSCONFIG, fs, _CREATE, None, None, 0)
        mount = _call(_FSMOUNT, fs, _CLOEXEC, 0)
    finally:
        os.close(fs)
    try:
        yield Path(f"/proc/{os.getpid()}/fd/{mount}")
    finally:
        os.close(mount)
