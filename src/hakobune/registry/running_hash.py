"""A hash of arriving bytes whose state can be kept, so that another worker goes on where one has stopped.

hashlib cannot give its state away; libcrypto's own `SHA256_CTX` and `SHA512_CTX` are plain memory (same code,
same speed). Where Python's libcrypto cannot be reached by name the state is None, and who goes on reads the file again.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from typing import Any, Final, Protocol

_CONTEXT_SIZES: Final = {"sha256": 112, "sha512": 216}  # openssl/sha.h: SHA256_CTX, SHA512_CTX
_DIGEST_SIZES: Final = {"sha256": 32, "sha512": 64}
ALGORITHMS: Final = tuple(_CONTEXT_SIZES)


class RunningHash(Protocol):
    """A hash under way."""

    algorithm: str

    def update(self, data: memoryview) -> None: ...

    def hexdigest(self) -> str:
        """The digits of what has come so far; more may follow."""
        ...

    def state(self) -> bytes | None:
        """What `resume_hash` needs to go on; None if this one cannot be kept."""
        ...


def start_hash(algorithm: str) -> RunningHash:
    """A hash of nothing yet; *algorithm* is sha256 or sha512."""
    if _LIBCRYPTO is None:
        return _HashlibHash(algorithm)
    return _LibcryptoHash(algorithm, None)


def resume_hash(algorithm: str, state: bytes) -> RunningHash | None:
    """The hash whose `state` was kept; None if this machine cannot read it."""
    tag = _tag(algorithm)
    if (
        _LIBCRYPTO is None
        or not state.startswith(tag)
        or len(state) != len(tag) + _CONTEXT_SIZES[algorithm]
    ):
        return None
    return _LibcryptoHash(algorithm, state[len(tag) :])


class _HashlibHash:
    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self._hash = hashlib.new(algorithm)

    def update(self, data: memoryview) -> None:
        self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def state(self) -> bytes | None:
        return None


class _View(ctypes.Structure):
    """`Py_buffer`: how C reads a memoryview without a copy, read-only ones too (docs.python.org/3/c-api/buffer.html)."""

    _fields_ = (
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    )


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = (ctypes.py_object, ctypes.c_void_p, ctypes.c_int)
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = (ctypes.c_void_p,)
_release_buffer.restype = None


class _LibcryptoHash:
    __slots__ = ("_context", "_update", "algorithm")

    def __init__(self, algorithm: str, context: bytes | None) -> None:
        self.algorithm = algorithm
        name = algorithm.upper()
        self._update = getattr(_LIBCRYPTO, f"{name}_Update")
        self._context = ctypes.create_string_buffer(_CONTEXT_SIZES[algorithm])
        if context is None:
            getattr(_LIBCRYPTO, f"{name}_Init")(self._context)
        else:
            self._context.raw = context

    def update(self, data: memoryview) -> None:
        view = _View()
        _get_buffer(data, ctypes.byref(view), 0)
        try:
            self._update(self._context, view.buf, view.len)
        finally:
            _release_buffer(ctypes.byref(view))

    def hexdigest(self) -> str:
        copy = ctypes.create_string_buffer(self._context.raw, len(self._context))
        digest = ctypes.create_string_buffer(_DIGEST_SIZES[self.algorithm])
        getattr(_LIBCRYPTO, f"{self.algorithm.upper()}_Final")(digest, copy)
        return digest.raw.hex()

    def state(self) -> bytes | None:
        return _tag(self.algorithm) + self._context.raw


def _tag(algorithm: str) -> bytes:
    return f"libcrypto {sys.byteorder} {algorithm}:".encode()


def _find_libcrypto() -> Any:
    """The libcrypto that hashlib has loaded, with checked signatures."""
    try:
        with open("/proc/self/maps") as maps:
            paths = {line.split()[-1] for line in maps if "libcrypto" in line}
        library = ctypes.CDLL(min(paths))
        for algorithm in ALGORITHMS:
            name = algorithm.upper()
            getattr(library, f"{name}_Init").argtypes = [ctypes.c_void_p]
            getattr(library, f"{name}_Final").argtypes = [ctypes.c_void_p, ctypes.c_void_p]
            update = getattr(library, f"{name}_Update")
            update.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    except (OSError, ValueError, AttributeError):
        return None
    return library


_LIBCRYPTO: Final = _find_libcrypto()
