"""User and password in a URL: they become a header for that host, and stand in no message."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote, urlsplit, urlunsplit


def split_credentials(url: str) -> tuple[str, str]:
    """An http or https URL without its user and password, and the `Authorization` that they mean; empty if it has none.

    Any other text is given back as it is.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, ""
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at or parts.scheme not in ("http", "https"):
        return url, ""
    user, _, password = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=host)), basic(unquote(user), unquote(password))


def basic(user: str, password: str) -> str:
    """RFC 7617."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def shown(url: str) -> str:
    """As messages show it."""
    return split_credentials(url)[0]
