"""Content digests (image-spec descriptor.md "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import Final, NoReturn

from hakobune.errors import HakoError

HEX_LENGTHS: Final = {"sha256": 64, "sha512": 128}
_DIGEST: Final = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


class DigestError(HakoError):
    """A text is not a digest, or some content is not what its digest says."""


class Digest:
    """The name of a content by its hash: `str(digest)` is `sha256:4f1c…`.

    Made by `parse` or `of`; the constructor trusts its arguments. Frozen, hashable, ordered. Not a dataclass:
    msgspec would then write it into documents as an object instead of asking how it is spelled.
    """

    __slots__ = ("algorithm", "hex")

    algorithm: str
    hex: str

    def __init__(self, algorithm: str, hex: str) -> None:
        object.__setattr__(self, "algorithm", algorithm)
        object.__setattr__(self, "hex", hex)

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `ALGORITHM:HEX`; sha256 and sha512 in lower case are the registered ones.

        Raises:
            DigestError: anything else, named in the message.
        """
        if not (match := _DIGEST.fullmatch(text)):
            raise DigestError(f"{_shown(text)} is not a digest", why=_reason(text))
        return cls(match[1] or match[3], match[2] or match[4])

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of *data*, sha256's unless another registered algorithm is named."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.hex[:12]

    def verify(self, data: bytes) -> None:
        """Check that *data* is what this digest names.

        Raises:
            DigestError: it is something else; both digests are in the message.
        """
        actual = hashlib.new(self.algorithm, data).hexdigest()
        if actual != self.hex:
            raise DigestError(
                f"the content of {self} is damaged",
                why=f"its {len(data)} bytes have the digest {self.algorithm}:{actual}",
            )

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    def __repr__(self) -> str:
        return f"Digest.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Digest):
            return NotImplemented
        return self.hex == other.hex and self.algorithm == other.algorithm

    def __lt__(self, other: Digest) -> bool:
        return (self.algorithm, self.hex) < (other.algorithm, other.hex)

    def __hash__(self) -> int:
        return hash(self.hex)

    def __reduce__(self) -> tuple[type[Digest], tuple[str, str]]:
        return Digest, (self.algorithm, self.hex)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a Digest cannot be changed ({name})")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 150 else text[:150] + "…")


def _reason(text: str) -> str:
    algorithm, colon, digits = text.partition(":")
    if not colon:
        return "a digest is ALGORITHM:HEX, for example sha256:4f1c…"
    if algorithm not in HEX_LENGTHS:
        return "the algorithms are sha256 and sha512"
    if len(digits) != HEX_LENGTHS[algorithm]:
        return (
            f"{algorithm} has {HEX_LENGTHS[algorithm]} hexadecimal digits, this has {len(digits)}"
        )
    return "the digits are 0-9 and a-f, in lower case"
