"""What a caller of IAM can get wrong, under Google's canonical names (google.rpc.Code).

Whoever answers by HTTP reads `status`; nothing here knows HTTP.
"""

from __future__ import annotations

from typing import ClassVar

from hakobune.errors import HakoError


class IamError(HakoError):
    """A request that IAM refuses."""

    status: ClassVar[str] = "INTERNAL"


class InvalidRequestError(IamError):
    """A name, a member, a role or a field cannot be accepted; the message names it."""

    status = "INVALID_ARGUMENT"


class UnknownResourceError(IamError):
    """The account, key, group or role does not exist."""

    status = "NOT_FOUND"


class NameTakenError(IamError):
    """There is one of that name already."""

    status = "ALREADY_EXISTS"


class ConcurrentChangeError(IamError):
    """The etag sent is not the policy's: somebody has changed it since it was read."""

    status = "ABORTED"


class UnsuitedStateError(IamError):
    """The account or key is not in a state in which this can be done."""

    status = "FAILED_PRECONDITION"


class BadCredentialsError(IamError):
    """A token or key is not valid (any more). The message says which kind, never what was sent."""

    status = "UNAUTHENTICATED"


class AccessDeniedError(IamError):
    """The caller is known and may not do this."""

    status = "PERMISSION_DENIED"
