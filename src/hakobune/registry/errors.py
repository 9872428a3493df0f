"""What the registry answers when it cannot do what is asked: one table from code to status (distribution-spec "Error Codes")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from hakobune.errors import HakoError

# The codes of the specification, then those that clients know from Docker's days, then ours.
STATUSES: Final[Mapping[str, int]] = {
    "BLOB_UNKNOWN": 404,
    "BLOB_UPLOAD_INVALID": 400,
    "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 400,
    "MANIFEST_INVALID": 400,
    "MANIFEST_UNKNOWN": 404,
    "NAME_INVALID": 400,
    "NAME_UNKNOWN": 404,
    "SIZE_INVALID": 400,
    "UNAUTHORIZED": 401,
    "DENIED": 403,
    "UNSUPPORTED": 405,
    "TOOMANYREQUESTS": 429,
    "TAG_INVALID": 400,
    "PAGINATION_NUMBER_INVALID": 400,
    "RANGE_INVALID": 416,
    "INSUFFICIENT_STORAGE": 507,
    "UNAVAILABLE": 503,
    "UNKNOWN": 500,
}


class RegistryError(HakoError):
    """An answer other than success.

    Args:
        code: a key of `STATUSES`.
        message: one sentence for the person at the client.
        detail: anything that JSON can hold, for programs.
        status: another than the code's own, where the specification wants it.
        retry_after_s: when it is worth trying again (Retry-After).
    """

    def __init__(
        self,
        code: str,
        message: str,
        detail: Any = None,
        status: int | None = None,
        *,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
        self.status = STATUSES[code] if status is None else status
        self.retry_after_s = retry_after_s

    def body(self) -> bytes:
        """The JSON that clients read (distribution-spec "Error Codes")."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.detail is not None:
            error["detail"] = self.detail
        return json.dumps({"errors": [error]}, ensure_ascii=False).encode()


class ResourceError(HakoError):
    """A repository, package, version or tag cannot be what the API asks for.

    Args:
        status: the canonical word (google.rpc.Code): NOT_FOUND, ALREADY_EXISTS, ABORTED (the etag is another),
            FAILED_PRECONDITION, INVALID_ARGUMENT.
    """

    def __init__(self, status: str, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what, why=why, fix=fix)
        self.status = status
