"""What HAProxy answers itself, in words: files for its errors, as our own plane and as a registry say them (pure)."""

from __future__ import annotations


def error_files() -> dict[int, str]:
    """What HAProxy itself answers, in words; a connection broken by the instance (502) is told as 503."""
    return {
        502: _error(503, "Service Unavailable", "the instance broke off before it answered"),
        503: _error(503, "Service Unavailable", "no instance could take the request in time"),
        504: _error(504, "Gateway Timeout", "the service did not answer within its timeout"),
    }


def registry_error_file() -> str:
    """The answer while the registry does not: in the words of its clients, who try again (distribution-spec "Error Codes")."""
    body = (
        '{"errors":[{"code":"UNAVAILABLE","message":"the registry does not answer; it is being '
        'started again","detail":null}]}'
    )
    return (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        f"docker-distribution-api-version: registry/2.0\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    )


def _error(status: int, reason: str, words: str) -> str:
    body = words + "\n"
    return (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    )
