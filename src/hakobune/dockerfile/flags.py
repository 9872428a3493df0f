"""`--flags` of an instruction."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from msgspec import Struct, field

from hakobune.dockerfile.errors import TextError, did_you_mean


class FlagKind(Enum):
    BOOL = "bool"
    TEXT = "text"
    TEXTS = "texts"


class Flags(Struct, frozen=True):
    """The flags that were given, by name without the dashes."""

    bools: Mapping[str, bool] = field(default_factory=dict)
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The value of a TEXT flag, empty if it was not given."""
        return self.lists.get(name, ("",))[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """All values of a TEXTS flag, in order."""
        return self.lists.get(name, ())

    def given(self, name: str) -> bool:
        """Whether the flag stands there."""
        return name in self.lists or name in self.bools


def read_flags(given: tuple[str, ...], known: Mapping[str, FlagKind], keyword: str) -> Flags:
    """Check flags against those that an instruction knows.

    Raises:
        TextError: an unknown or repeated flag, or a value that is missing or no boolean.
    """
    bools: dict[str, bool] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for flag in given:
        name, equals, value = flag[2:].partition("=")
        kind = known.get(name)
        shown = f"--{name}"
        if kind is None:
            raise TextError(
                f"{keyword} has no flag {shown}",
                near=shown,
                fix=did_you_mean(shown, [f"--{one}" for one in known])
                or (
                    "it knows " + ", ".join(f"--{one}" for one in sorted(known))
                    if known
                    else "it has no flags"
                ),
            )
        if kind is not FlagKind.TEXTS and (name in bools or name in lists):
            raise TextError(f"{shown} is given twice", near=shown, fix="delete one of them")
        if kind is FlagKind.BOOL:
            bools[name] = _read_bool(shown, value if equals else "true")
        elif not equals:
            raise TextError(f"{shown} needs a value", near=shown, fix=f"write {shown}=VALUE")
        else:
            lists[name] = (*lists.get(name, ()), value)
    return Flags(bools, lists)


def _read_bool(shown: str, value: str) -> bool:
    lowered = value.lower()
    if lowered not in ("true", "false"):
        raise TextError(
            f"{shown} is true or false, not {value!r}",
            near=shown,
            fix=f"write {shown} or {shown}=false",
        )
    return lowered == "true"
