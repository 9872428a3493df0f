"""Cleanup policies as Artifact Registry writes them in JSON, read and checked."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from hakobune.errors import HakoError

SECOND: Final = 1_000_000  # in microseconds, the unit of all times of versions
_DURATION: Final = re.compile(r"(\d+(?:\.\d{1,9})?)s")


class CleanupPolicyError(HakoError):
    """A stored policy cannot be read; nothing is deleted then."""


class Condition(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Matches a version that all of its fields match."""

    tag_state: str = "ANY"
    tag_prefixes: tuple[str, ...] = ()
    version_name_prefixes: tuple[str, ...] = ()
    package_name_prefixes: tuple[str, ...] = ()
    older_than: str = ""
    newer_than: str = ""


class MostRecent(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Keeps so many versions of each package."""

    keep_count: int
    package_name_prefixes: tuple[str, ...] = ()


class Policy(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """`action` is DELETE or KEEP, with a condition or a number of most recent versions."""

    action: str
    id: str = ""
    condition: Condition | None = None
    most_recent_versions: MostRecent | None = None


def read_policy(id: str, policy: Any) -> Policy:
    """One of the policies of a repository, as it is stored.

    Raises:
        CleanupPolicyError: it cannot be understood.
    """
    try:
        read = msgspec.convert(policy, Policy)
        for condition in filter(None, [read.condition]):
            for text in filter(None, [condition.older_than, condition.newer_than]):
                parse_duration_us(text)
            if condition.tag_state not in ("ANY", "TAGGED", "UNTAGGED", "TAG_STATE_UNSPECIFIED"):
                raise ValueError(f"tagState {condition.tag_state!r} is not known")
        if read.action not in ("DELETE", "KEEP"):
            raise ValueError(f"action {read.action!r} is not known")
    except (msgspec.ValidationError, ValueError) as error:
        raise CleanupPolicyError(
            f"the cleanup policy {id!r} cannot be read", why=str(error), fix="set it anew"
        ) from error
    return read


def parse_duration_us(text: str) -> int:
    """Microseconds of the wire's `86400s`.

    Raises:
        ValueError: it is no such text.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration in seconds, as 86400s")
    return int(float(match[1]) * SECOND)
