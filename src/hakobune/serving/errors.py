"""What a caller of the serving plane can get wrong, under Google's canonical names (google.rpc.Code).

The API answers each with its HTTP status; nothing here knows HTTP.
"""

from __future__ import annotations

from typing import ClassVar

from hakobune.errors import HakoError


class ServingError(HakoError):
    """A request that the serving plane refuses."""

    status: ClassVar[str] = "INTERNAL"


class InvalidArgumentError(ServingError):
    """A field of a document, or a parameter, cannot be accepted.

    Args:
        field: where, in the document's own words: `template.containers[0].image`.
    """

    status = "INVALID_ARGUMENT"

    def __init__(self, what: str, *, field: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(f"{field}: {what}" if field else what, why=why, fix=fix)
        self.field = field


class NotFoundError(ServingError):
    """The named resource does not exist."""

    status = "NOT_FOUND"


class AlreadyExistsError(ServingError):
    """The name is taken."""

    status = "ALREADY_EXISTS"


class AbortedError(ServingError):
    """The etag sent is not the resource's: somebody has changed it since it was read."""

    status = "ABORTED"


class FailedPreconditionError(ServingError):
    """The resource is not in a state in which this can be done."""

    status = "FAILED_PRECONDITION"
