"""One table from a serving error to the answer of Google's APIs (google.rpc.Status in JSON)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import JSONResponse

from hakobune.errors import HakoError
from hakobune.serving.errors import ServingError

logger = logging.getLogger(__name__)

# google.rpc.Code by canonical word, and the HTTP status that Google's gateways answer with.
ANSWERS: Mapping[str, HTTPStatus] = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "FAILED_PRECONDITION": HTTPStatus.BAD_REQUEST,
    "UNAUTHENTICATED": HTTPStatus.UNAUTHORIZED,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "ABORTED": HTTPStatus.CONFLICT,
    "ALREADY_EXISTS": HTTPStatus.CONFLICT,
    "RESOURCE_EXHAUSTED": HTTPStatus.TOO_MANY_REQUESTS,
    "UNIMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "INTERNAL": HTTPStatus.INTERNAL_SERVER_ERROR,
}


class UnauthenticatedError(ServingError):
    """The call carries no token, or a wrong one."""

    status = "UNAUTHENTICATED"


class PermissionDeniedError(ServingError):
    """The call comes from where calls are not taken: a foreign web page or a foreign host name."""

    status = "PERMISSION_DENIED"


def error_response(status: str, message: str, *, reason: str = "", fix: str = "") -> JSONResponse:
    """The body every Google client reads; *fix* travels as metadata of an ErrorInfo."""
    code = ANSWERS[status]
    error: dict[str, object] = {"code": int(code), "message": message, "status": status}
    if reason or fix:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason or status,
            "domain": "run.googleapis.com",
            "metadata": {"fix": fix} if fix else {},
        }
        error["details"] = [info]
    return JSONResponse({"error": error}, status_code=int(code))


async def answer_serving_error(_: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for `ServingError`."""
    assert isinstance(error, ServingError)  # Starlette types every handler with Exception
    message = f"{error.what} ({error.why})" if error.why else error.what
    return error_response(error.status, message, fix=error.fix)


async def answer_hako_error(_: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for any other error of ours: the caller sees it, the log keeps it."""
    assert isinstance(error, HakoError)  # Starlette types every handler with Exception
    logger.error("request failed", extra={"what": error.what, "why": error.why})
    return error_response("INTERNAL", str(error))


async def answer_unknown_path(request: Request, _: Exception) -> JSONResponse:
    """Starlette's handler for 404 and 405."""
    return error_response("NOT_FOUND", f"there is no {request.method} {request.url.path}")
