"""Passwords of others (upstream registries), kept encrypted: AES-256-GCM under a key that follows from the master key.

`cryptography` is imported when something is sealed or opened, so that a registry worker without such passwords never does.
"""

from __future__ import annotations

import os
from typing import Final

from hakobune.errors import HakoError
from hakobune.iam.master_key import MasterKey

_VERSION: Final = b"\x01"
_NONCE_BYTES: Final = 12


class SecretBoxError(HakoError):
    """A sealed value cannot be opened: it belongs to another master key or place, or is damaged."""


class SecretBox:
    """Seals and opens short values."""

    def __init__(self, master: MasterKey) -> None:
        self._key = master.derive("secret box")

    def seal(self, plain: bytes, *, place: str) -> bytes:
        """*plain* encrypted; opens only for the same *place* (the name of the resource that it belongs to)."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + AESGCM(self._key).encrypt(nonce, plain, place.encode())

    def open(self, sealed: bytes, *, place: str) -> bytes:
        """What was sealed for *place*.

        Raises:
            SecretBoxError: it was not sealed for that place with this installation's key, or has been altered.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            if sealed[:1] != _VERSION or len(nonce) != _NONCE_BYTES:
                raise InvalidTag
            return AESGCM(self._key).decrypt(nonce, body, place.encode())
        except InvalidTag as error:
            raise SecretBoxError(
                f"cannot open the secret of {place}",
                why="it was sealed with another master key, or has been altered",
                fix="set it again",
            ) from error
