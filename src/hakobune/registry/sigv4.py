"""AWS Signature Version 4 for S3, as headers and as a URL that anybody may use for a while.

Pure. The signing of `Authorization` headers and of presigned queries is AWS's "Authenticating Requests (AWS
Signature Version 4)"; chunked signing is deliberately absent: whoever sends a body knows its SHA-256.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote

EMPTY_SHA256: Final = sha256(b"").hexdigest()
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
LONGEST_PRESIGNED_S: Final = 7 * 24 * 3600

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Who asks; *session_token* belongs to keys that expire."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """Signs requests to one region's S3."""

    credentials: S3Credentials
    region: str

    def headers(
        self,
        method: str,
        host: str,
        path: str,
        *,
        now: datetime,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        payload_sha256: str = EMPTY_SHA256,
    ) -> dict[str, str]:
        """The headers to send: *headers*, and those that sign all of it.

        Args:
            path: as it is, not percent-encoded.
            now: in UTC.
            payload_sha256: of the body, in hex, or `UNSIGNED`.
        """
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        signed = {
            **(headers or {}),
            "Host": host,
            "x-amz-content-sha256": payload_sha256,
            "x-amz-date": moment,
        }
        if self.credentials.session_token:
            signed["x-amz-security-token"] = self.credentials.session_token
        names = ";".join(sorted(name.lower() for name in signed))
        request = _canonical_request(method, path, query or {}, signed, names, payload_sha256)
        signed["Authorization"] = (
            f"{_ALGORITHM} Credential={self.credentials.access_key}/{self._scope(moment)},"
            f"SignedHeaders={names},Signature={self._signature(request, moment)}"
        )
        return signed

    def presigned_query(
        self,
        method: str,
        host: str,
        path: str,
        *,
        now: datetime,
        lifetime_s: int,
        query: Mapping[str, str] | None = None,
    ) -> str:
        """The query, with its signature, that lets whoever has it send this one request for *lifetime_s* seconds."""
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        parameters = {
            **(query or {}),
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.credentials.access_key}/{self._scope(moment)}",
            "X-Amz-Date": moment,
            "X-Amz-Expires": str(min(lifetime_s, LONGEST_PRESIGNED_S)),
            "X-Amz-SignedHeaders": "host",
        }
        if self.credentials.session_token:
            parameters["X-Amz-Security-Token"] = self.credentials.session_token
        request = _canonical_request(method, path, parameters, {"Host": host}, "host", UNSIGNED)
        return f"{encode_query(parameters)}&X-Amz-Signature={self._signature(request, moment)}"

    def _scope(self, moment: str) -> str:
        return f"{moment[:8]}/{self.region}/s3/aws4_request"

    def _signature(self, canonical_request: str, moment: str) -> str:
        text = "\n".join(
            (
                _ALGORITHM,
                moment,
                self._scope(moment),
                sha256(canonical_request.encode()).hexdigest(),
            )
        )
        key = f"AWS4{self.credentials.secret_key}".encode()
        for part in (moment[:8], self.region, "s3", "aws4_request"):
            key = _hmac(key, part)
        return _hmac(key, text).hex()


def encode_path(path: str) -> str:
    """*path* percent-encoded once, as S3 (unlike AWS's other services) signs it."""
    return quote(path, safe="/~")


def encode_query(query: Mapping[str, str]) -> str:
    """In the order of the encoded names; spaces are `%20`."""
    pairs = sorted((quote(name, safe="~"), quote(text, safe="~")) for name, text in query.items())
    return "&".join(f"{name}={text}" for name, text in pairs)


def _canonical_request(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    names: str,
    payload_sha256: str,
) -> str:
    lines = sorted((name.lower(), " ".join(text.split())) for name, text in headers.items())
    canonical_headers = "".join(f"{name}:{text}\n" for name, text in lines)
    return "\n".join(
        (method, encode_path(path), encode_query(query), canonical_headers, names, payload_sha256)
    )


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), sha256).digest()
