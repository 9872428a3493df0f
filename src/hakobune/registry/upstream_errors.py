"""An upstream that does not give what it is asked for: as we know it, and as clients are told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hakobune.registry.errors import STATUSES, RegistryError
from hakobune.registry.freshness import Failed, Trouble


class UpstreamError(Exception):
    """The upstream did not answer the question. Nothing secret is in it.

    Attributes:
        status: its HTTP status; 0 if there was no answer.
    """

    def __init__(
        self,
        trouble: Trouble,
        host: str,
        why: str,
        *,
        status: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{host}: {why}")
        self.trouble = trouble
        self.host = host
        self.why = why
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def failed(self) -> Failed:
        """The same as a value for decisions."""
        return Failed(trouble=self.trouble, retry_after_s=self.retry_after_s)

    def to_note(self) -> str:
        """For readers in other processes; `from_note` reads it."""
        return json.dumps(
            {
                "trouble": self.trouble,
                "host": self.host,
                "why": self.why[:500],
                "retry_after_s": self.retry_after_s,
            }
        )


class AbsentError(Exception):
    """The upstream says that it does not have it."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} does not have it")
        self.host = host

    def to_note(self) -> str:
        """For readers in other processes."""
        return json.dumps({"absent": self.host})


class DesertedError(Exception):
    """The fetch has ended since nobody was left to read; whoever comes now begins it again."""

    def to_note(self) -> str:
        """For readers in other processes."""
        return json.dumps({"deserted": True})


class FailedHereError(Exception):
    """The upstream is fine, this registry is not: no room, a quota.

    Attributes:
        code: a key of `errors.STATUSES`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def to_note(self) -> str:
        """For readers in other processes."""
        return json.dumps({"code": self.code, "message": self.message[:500]})

    def answer(self) -> RegistryError:
        """What the client is told."""
        return RegistryError(self.code, self.message)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for, for messages: `kind` is a word of `errors.STATUSES`' table before `_UNKNOWN`."""

    kind: str  # MANIFEST, BLOB or NAME
    name: str


def from_note(note: str) -> UpstreamError | AbsentError | DesertedError | FailedHereError:
    """What another process has noted."""
    try:
        document: dict[str, Any] = json.loads(note)
        if "absent" in document:
            return AbsentError(str(document["absent"]))
        if "deserted" in document:
            return DesertedError()
        if document.get("code") in STATUSES:
            return FailedHereError(document["code"], str(document["message"]))
        return UpstreamError(
            Trouble(document["trouble"]),
            str(document["host"]),
            str(document["why"]),
            retry_after_s=document["retry_after_s"],
        )
    except (ValueError, KeyError, TypeError):
        return UpstreamError(Trouble.UNREACHABLE, "the upstream", "the fetch has failed")


def answer_for(error: UpstreamError | AbsentError, wanted: Wanted) -> RegistryError:
    """What the client is told. Never 401: its own credentials are fine, and it would ask for others."""
    if isinstance(error, AbsentError):
        return RegistryError(
            f"{wanted.kind}_UNKNOWN",
            f"{wanted.name} is not known here, and {error.host} does not have it, or does not show it",
        )
    message = f"{wanted.name} is not cached, and {error.host} does not give it: {error.why}"
    match error.trouble:
        case Trouble.LIMITED:
            wait = error.retry_after_s
            return RegistryError(
                "TOOMANYREQUESTS",
                message,
                retry_after_s=None if wait is None else max(1, round(wait)),
            )
        case Trouble.UNREACHABLE:
            return RegistryError("UNAVAILABLE", message, status=504)
        case Trouble.BROKEN | Trouble.WRONG | Trouble.REFUSED:
            return RegistryError("UNAVAILABLE", message, status=502)
