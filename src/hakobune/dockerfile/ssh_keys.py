"""`--ssh ID=KEYFILE`: private keys that sign for the RUNs of one build; they are in this process's memory and nowhere else.

An agent of our own, so that no other program must be installed or started, and no key leaves the process
(draft-miller-ssh-agent sections 4.4, 4.5; the files: OpenSSH's PROTOCOL.key, PEM).
"""

from __future__ import annotations

import os
import stat
import struct
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from hakobune.dockerfile.ssh_agent import FAILURE, REQUEST_IDENTITIES, SIGN_REQUEST
from hakobune.errors import HakoError

if TYPE_CHECKING:  # a build without keys does without it
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

_IDENTITIES_ANSWER, _SIGN_RESPONSE = 12, 14
_SHA_256, _SHA_512 = 2, 4  # flags of a request for a signature by an RSA key
_LENGTH: Final = struct.Struct(">I")
_LARGEST: Final = 100 * 1024
_PUBLIC: Final = (b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-")


class KeyFileError(HakoError):
    """A file holds no key that can be used."""


class Key(Struct, frozen=True, eq=False):
    """A private key, by what it can do.

    Attributes:
        blob: the public half, as the protocol names a key.
        sign: a signature of some data, with the request's flags.
    """

    blob: bytes
    sign: Callable[[bytes, int], bytes]


class KeyAgent:
    """Lists and uses its keys; threads may share it."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = {key.blob: key for key in keys}

    @contextmanager
    def connect(self) -> Iterator[Callable[[bytes], bytes | None]]:
        """A conversation: each message gets its answer, both without their length."""
        yield self.answer

    def answer(self, message: bytes) -> bytes:
        """What the agent says to *message*; a failure to what it does not understand."""
        try:
            if message[:1] == bytes([REQUEST_IDENTITIES]):
                listed = b"".join(_string(blob) + _string(b"") for blob in self._keys)
                return bytes([_IDENTITIES_ANSWER]) + _LENGTH.pack(len(self._keys)) + listed
            if message[:1] == bytes([SIGN_REQUEST]):
                blob, rest = _take(message[1:])
                data, rest = _take(rest)
                (flags,) = _LENGTH.unpack(rest)
                return bytes([_SIGN_RESPONSE]) + _string(self._keys[blob].sign(data, flags))
        except (struct.error, KeyError):
            pass
        return FAILURE


def read_key(path: Path) -> Key:
    """The private key in a file: OpenSSH's form or PEM; RSA, ECDSA or Ed25519.

    Raises:
        KeyFileError: it cannot be read, is none, or is encrypted.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = _read(path)
    what = f"the ssh key {path} cannot be used"
    if data.lstrip().startswith(_PUBLIC):
        raise KeyFileError(
            what,
            why="it is the public half",
            fix=f"name the private one: {str(path).removesuffix('.pub')}",
        )
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    try:
        return _key(load(data, None))
    except TypeError as error:
        raise KeyFileError(
            what,
            why="it is encrypted, and a build asks for no passphrase",
            fix=f'give it to an agent: eval "$(ssh-agent)" && ssh-add {path}; then --ssh default',
        ) from error
    except UnsupportedAlgorithm as error:
        raise _other_kind(what, path) from error
    except ValueError as error:
        raise KeyFileError(
            what,
            why="it is no private key in OpenSSH's form or PEM",
            fix="--ssh ID=KEYFILE, as ssh-keygen makes one; or --ssh ID=SOCKET of an agent",
        ) from error


def _read(path: Path) -> bytes:
    what = f"the ssh key {path} cannot be read"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyFileError(
            what, why=error.strerror or str(error), fix="--ssh ID=KEYFILE or --ssh ID=SOCKET"
        ) from error
    try:
        status = os.fstat(descriptor)
        is_file = stat.S_ISREG(status.st_mode)
        if not is_file or status.st_size > _LARGEST:
            raise KeyFileError(
                what,
                why=f"it is {status.st_size} bytes long, and no key is"
                if is_file
                else "it is no file",
                fix="--ssh ID=KEYFILE or --ssh ID=SOCKET",
            )
        return os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)


def _other_kind(what: str, path: Path) -> KeyFileError:
    return KeyFileError(
        what,
        why="it is neither an RSA, nor an ECDSA, nor an Ed25519 key",
        fix=f"give it to an agent that knows its kind: ssh-add {path}; then --ssh default",
    )


def _key(private: object) -> Key:
    """Raises `UnsupportedAlgorithm` if it is of another kind."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    sign: Callable[[bytes, int], bytes]
    match private:
        case Ed25519PrivateKey():
            ed25519 = private
            sign = lambda data, flags: _string(b"ssh-ed25519") + _string(ed25519.sign(data))  # noqa: E731 # beside its siblings
        case RSAPrivateKey():
            rsa = private
            sign = lambda data, flags: _sign_rsa(rsa, data, flags)  # noqa: E731
        case EllipticCurvePrivateKey():
            ecdsa = private
            sign = lambda data, flags: _sign_ecdsa(ecdsa, data)  # noqa: E731
        case _:
            raise UnsupportedAlgorithm("no key for ssh")
    try:
        text = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    except ValueError as error:  # a curve that ssh does not know
        raise UnsupportedAlgorithm(str(error)) from error
    return Key(b64decode(text.split()[1]), sign)


def _sign_rsa(key: RSAPrivateKey, data: bytes, flags: int) -> bytes:
    """RFC 8332; without a flag the client has asked for SHA-1."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    if flags & _SHA_512:
        return _string(b"rsa-sha2-512") + _string(key.sign(data, PKCS1v15(), hashes.SHA512()))
    if flags & _SHA_256:
        return _string(b"rsa-sha2-256") + _string(key.sign(data, PKCS1v15(), hashes.SHA256()))
    return _string(b"ssh-rsa") + _string(key.sign(data, PKCS1v15(), hashes.SHA1()))


def _sign_ecdsa(key: EllipticCurvePrivateKey, data: bytes) -> bytes:
    """RFC 5656 section 3.1.2."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    bits = key.curve.key_size
    hash_: hashes.HashAlgorithm = (
        hashes.SHA256() if bits <= 256 else hashes.SHA384() if bits <= 384 else hashes.SHA512()
    )
    numbers = decode_dss_signature(key.sign(data, ECDSA(hash_)))
    pair = b"".join(_string(_integer(number)) for number in numbers)
    return _string(f"ecdsa-sha2-nistp{bits}".encode()) + _string(pair)


def _integer(number: int) -> bytes:
    """With a leading zero where it would look negative (RFC 4251 section 5 "mpint")."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _string(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    """The string at the beginning, and the rest."""
    (length,) = _LENGTH.unpack_from(data)
    if len(data) < _LENGTH.size + length:
        raise struct.error("cut short")
    return data[_LENGTH.size : _LENGTH.size + length], data[_LENGTH.size + length :]
