"""User and password in a URL: they become a header for that host, and stand in no message."""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_USERINFO = re.compile(r"""(https?://)[^\s/@"']+@""")
# What a URL may hold as it is; the rest is written as %XX.
_AS_IT_IS = "!#$%&'()*+,/:;=?@[]~"


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


def without_credentials(text: str) -> str:
    """A line of a Dockerfile as it is shown: no URL in it has a user and a password."""
    return _USERINFO.sub(r"\1", text)


def ascii_url(url: str) -> str:
    """As it goes over the wire: letters of other alphabets and blanks are encoded.

    Raises:
        ValueError: it is no URL.
    """
    parts = urlsplit(url)
    host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    return quote(urlunsplit(parts._replace(netloc=host)), safe=_AS_IT_IS)


def basic(user: str, password: str) -> str:
    """RFC 7617."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def shown(url: str) -> str:
    """As messages show it."""
    return split_credentials(url)[0]
