"""One table from an error's canonical word to the answer of Google's APIs (google.rpc.Status in JSON).

Errors of every room carry that word as `status`; those of the registry's data plane carry codes of the
distribution specification, which have a row each in `WORDS`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from starlette.requests import Request
from starlette.responses import JSONResponse

from hakobune.errors import HakoError
from hakobune.registry.errors import RegistryError
from hakobune.serving.errors import ServingError
from hakobune.state.errors import DatabaseError

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
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
}

# What the data plane's codes are for a client of the Google APIs.
WORDS: Mapping[str, str] = {
    "BLOB_UNKNOWN": "NOT_FOUND",
    "MANIFEST_UNKNOWN": "NOT_FOUND",
    "NAME_UNKNOWN": "NOT_FOUND",
    "BLOB_UPLOAD_UNKNOWN": "NOT_FOUND",
    "UNAUTHORIZED": "UNAUTHENTICATED",
    "DENIED": "FAILED_PRECONDITION",  # who may is decided before: what is denied here is an immutable tag
    "UNSUPPORTED": "FAILED_PRECONDITION",
    "TOOMANYREQUESTS": "RESOURCE_EXHAUSTED",
    "INSUFFICIENT_STORAGE": "RESOURCE_EXHAUSTED",
    "UNAVAILABLE": "UNAVAILABLE",
    "UNKNOWN": "INTERNAL",
}


class UnauthenticatedError(ServingError):
    """The call carries no token, or a wrong one."""

    status = "UNAUTHENTICATED"


class PermissionDeniedError(ServingError):
    """The call comes from where calls are not taken: a foreign web page or a foreign host name."""

    status = "PERMISSION_DENIED"


def canonical_word(error: HakoError) -> str:
    """The google.rpc.Code of any error of ours; INTERNAL for what no caller could have done better."""
    if isinstance(error, RegistryError):
        return WORDS.get(error.code, "INVALID_ARGUMENT")
    if isinstance(error, DatabaseError):
        return "UNAVAILABLE"
    word = getattr(error, "status", "INTERNAL")
    return word if word in ANSWERS else "INTERNAL"


def error_response(
    status: str,
    message: str,
    *,
    reason: str = "",
    why: str = "",
    fix: str = "",
    domain: str = "run.googleapis.com",
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> JSONResponse:
    """The body every Google client reads: *why* stands in its message; *why* and *fix* also alone, as metadata of an ErrorInfo."""
    code = ANSWERS[status]
    text = f"{message} ({why})" if why else message
    error: dict[str, object] = {"code": int(code), "message": text, "status": status}
    facts = {name: fact for name, fact in (("why", why), ("fix", fix)) if fact}
    if reason or facts:
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reason or status,
            "domain": domain,
            "metadata": {**metadata, **facts},
        }
        error["details"] = [info]
    return JSONResponse({"error": error}, status_code=int(code))


def service_domain(path: str) -> str:
    """The Google service that a path belongs to."""
    if path.startswith("/v1/"):
        iam = "serviceAccounts" in path or path.count("/") == 3
        return "iam.googleapis.com" if iam else "artifactregistry.googleapis.com"
    return "run.googleapis.com"


async def answer_hako_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's handler for every error of ours; what is INTERNAL is kept in the log, too."""
    assert isinstance(error, HakoError)  # Starlette types every handler with Exception
    status = canonical_word(error)
    if status == "INTERNAL":
        logger.error("request failed", extra={"what": error.what, "why": error.why})
    domain = service_domain(request.url.path)
    return error_response(status, error.what, why=error.why, fix=error.fix, domain=domain)


async def answer_unknown_path(request: Request, _: Exception) -> JSONResponse:
    """Starlette's handler for 404 and 405."""
    return error_response("NOT_FOUND", f"there is no {request.method} {request.url.path}")
