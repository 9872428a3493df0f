"""Which redirects are followed, and what counts as the same host (pure)."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, urljoin, urlsplit

_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_UPGRADES: Final = {("http", 80): ("https", 443)}


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: credentials for one are for no other."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def base_of(url: str) -> str:
    """`https://HOST[:PORT]` of that URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def resolve_location(url: str, location: str) -> str:
    """The URL that a `Location` in the answer of *url* means (RFC 9110 "10.2.2").

    Registries behind a proxy often do not know that it speaks TLS, and name themselves with http://.
    """
    try:
        target = urljoin(url, quote(location.encode("latin-1", "replace"), safe=_PRINTABLE))
    except ValueError:
        return location
    own = urlsplit(url)
    if own.scheme == "https" and urlsplit(target)[:2] == ("http", own.netloc):
        return "https" + target.removeprefix("http")
    return target


def is_same_host(url: str, target: str) -> bool:
    """Whether what is for the host of *url* may go to *target*: it is the same origin, or the same host now with TLS."""
    own, other = origin_of(url), origin_of(target)
    scheme, port = _UPGRADES.get((own[0], own[2]), ("", 0))
    return other in (own, (scheme, own[1], port))


def scheme_of(url: str) -> str | None:
    """`http` or what else there is, perhaps nothing; `None` for what is no URL: its port is no number."""
    try:
        parts = urlsplit(url)
        return parts.scheme if parts.port != 0 else None
    except ValueError:
        return None


def why_not_followed(url: str, target: str, *, insecure: bool) -> str:
    """Why a redirect is not followed; empty if it is (pure)."""
    scheme = scheme_of(target)
    if scheme is None:
        return "it is no URL"
    if scheme not in ("http", "https"):
        return f"{scheme or 'nothing'} is not a way to fetch"
    if scheme == "http" and url.startswith("https://") and not insecure:
        return "it does not speak TLS, the registry does"
    return ""
