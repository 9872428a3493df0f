"""Which redirects are followed, and what counts as the same host (pure)."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit


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
    target = urljoin(url, location)
    own = urlsplit(url)
    if own.scheme == "https" and urlsplit(target)[:2] == ("http", own.netloc):
        return "https" + target.removeprefix("http")
    return target


def why_not_followed(url: str, target: str, *, insecure: bool) -> str:
    """Why a redirect is not followed; empty if it is (pure)."""
    scheme = urlsplit(target).scheme
    if scheme not in ("http", "https"):
        return f"{scheme or 'nothing'} is not a way to fetch"
    if scheme == "http" and url.startswith("https://") and not insecure:
        return "it does not speak TLS, the registry does"
    return ""
