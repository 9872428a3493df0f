"""Operating system, CPU architecture and variant (image-spec image-index.md "Platform Variants")."""

from __future__ import annotations

import os
from typing import Final

import msgspec

from hakobune.errors import HakoError

# uname's machine names and other spellings -> Go's GOARCH and variant, which images use.
_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv8l": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "loongarch64": ("loong64", ""),
}
# The variant that an image means when it names none.
_IMPLIED_VARIANTS: Final = {"arm64": "v8", "arm": "v7"}


class PlatformError(HakoError):
    """A text is not a platform."""


class Platform(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """What a program runs on: `linux/amd64`, `linux/arm64/v8`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `OS/ARCHITECTURE[/VARIANT]`; uname's spellings (x86_64, aarch64) are understood.

        Raises:
            PlatformError: not two or three words of letters, digits, `.`, `_` and `-`.
        """
        parts = text.lower().split("/")
        if len(parts) not in (2, 3) or not all(_is_word(part) for part in parts):
            raise PlatformError(
                f"{text!r} is not a platform",
                why="a platform is OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT",
                fix="write for example linux/amd64 or linux/arm64",
            )
        architecture, implied = _ARCHITECTURES.get(parts[1], (parts[1], ""))
        return cls(parts[0], architecture, parts[2] if len(parts) == 3 else implied)

    @classmethod
    def host(cls) -> Platform:
        """This machine's platform, as its kernel reports it."""
        uname = os.uname()
        return cls.parse(f"{uname.sysname}/{uname.machine}")

    def matches(self, other: Platform) -> bool:
        """Whether both name the same platform; a variant that is not said is the usual one."""
        return (self.os, self.architecture, self._variant()) == (
            other.os,
            other.architecture,
            other._variant(),
        )

    def normal(self) -> Platform:
        """The same platform, as builders write it: `linux/arm` is `linux/arm/v7`, `linux/arm64/v8` is `linux/arm64`."""
        variant = self.variant
        if self.architecture == "arm":
            variant = variant or "v7"
        elif (self.architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
            variant = ""
        return Platform(self.os, self.architecture, variant)

    def _variant(self) -> str:
        return self.variant or _IMPLIED_VARIANTS.get(self.architecture, "")

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def _is_word(text: str) -> bool:
    return (
        bool(text)
        and text.isascii()
        and text.replace("_", "").replace("-", "").replace(".", "").isalnum()
    )
