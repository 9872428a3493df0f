"""Which proxy a request goes through: the environment as curl reads it, the exceptions as Go reads them."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from hakobune.distribution.registries import bare_host, is_loopback
from hakobune.errors import HakoError

_PORTS = {"http": 80, "https": 443}


class ProxyError(OSError):
    """The proxy is not there, or does not connect us.

    Attributes:
        why, fix: for people; `fix` may be empty.
        final: trying again will not help.
    """

    def __init__(self, why: str, *, fix: str = "", final: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.fix = fix
        self.final = final


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """Where a proxy is, and what we are to it. `repr` shows no secret."""

    host: str  # without brackets
    port: int
    tls: bool = False  # it is spoken to by TLS, whatever goes through it
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Read `[http[s]://][USER:PASSWORD@]HOST[:PORT]`.

        Raises:
            HakoError: it is none that we can use.
        """
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host, port = "", None
        if parts.scheme not in _PORTS or not host:
            known = parts.scheme in _PORTS
            raise HakoError(
                f"cannot use the proxy at {parts.netloc.rpartition('@')[2]!r}",
                why="that is no host and port" if known else f"its kind is {parts.scheme!r}",
                fix="name a proxy as http://HOST:PORT, or as https://HOST:PORT if it is spoken to by TLS",
            )
        return cls(
            host=host,
            port=_PORTS[parts.scheme] if port is None else port,
            tls=parts.scheme == "https",
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    @property
    def address(self) -> str:
        """`HOST:PORT`, as URLs have it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What tells the proxy who we are."""
        if not self.user:
            return {}
        text = f"{self.user}:{self.password}"
        return {"Proxy-Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """`HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`; URLs may hold a user and password."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    exceptions: tuple[str, ...] = ()

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Proxies:
        """Capital and small spellings; the small one counts. In a CGI program HTTP_PROXY is the visitor's: not read."""
        cgi = "REQUEST_METHOD" in env
        return cls(
            http=env.get("http_proxy") or ("" if cgi else env.get("HTTP_PROXY", "")),
            https=env.get("https_proxy") or env.get("HTTPS_PROXY", ""),
            exceptions=tuple(
                item.strip().lower()
                for item in (env.get("no_proxy") or env.get("NO_PROXY", "")).split(",")
                if item.strip()
            ),
        )

    def proxy_for(self, scheme: str, host: str) -> Proxy | None:
        """The proxy for `scheme://host`; `None` for a direct connection. Loopback never has one.

        Raises:
            HakoError: the one that is configured cannot be used.
        """
        url = self.https if scheme == "https" else self.http
        if not url or is_loopback(host):
            return None
        name, port = split_port(host.lower())
        port = port or str(_PORTS[scheme])
        if any(_excepts(exception, name, port) for exception in self.exceptions):
            return None
        return Proxy.parse(url)


def split_port(text: str) -> tuple[str, str]:
    """Host without brackets, and port (empty if there is none); an IPv6 address may stand without brackets."""
    if text.count(":") > 1 and not text.startswith("["):
        return text, ""
    return bare_host(text), text.rpartition("]")[2].partition(":")[2]


def _excepts(exception: str, host: str, port: str) -> bool:
    """Whether one item of NO_PROXY fits (golang.org/x/net/http/httpproxy, `Config.NoProxy`).

    `*`; a network in CIDR notation; or an address or a domain, with or without a port. A domain stands for itself and
    all below it; with a dot (or `*.`) before it for those below it alone.
    """
    if exception == "*":
        return True
    address = _address(host)
    if "/" in exception:
        try:
            return address is not None and address in ipaddress.ip_network(exception, strict=False)
        except ValueError:
            return False
    wanted, wanted_port = split_port(exception)
    if not wanted or wanted_port not in ("", port):
        return False
    if (wanted_address := _address(wanted)) is not None:
        return address == wanted_address
    domain = wanted.removeprefix("*") if wanted.startswith("*.") else wanted
    if domain.startswith("."):
        return host.endswith(domain)
    return host == domain or host.endswith("." + domain)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
