"""Which proxy a request goes through, as curl and Go read the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from hakobune.distribution.registries import bare_host, is_loopback


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """`HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`; URLs may hold a user and password."""

    http: str = ""
    https: str = ""
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

    def proxy_for(self, scheme: str, host: str) -> str:
        """The proxy's URL for `scheme://host`; empty for a direct connection. Loopback never has one."""
        proxy = self.https if scheme == "https" else self.http
        if (
            not proxy
            or is_loopback(host)
            or any(_excepts(e, host.lower()) for e in self.exceptions)
        ):
            return ""
        return proxy if "://" in proxy else f"http://{proxy}"


def _excepts(exception: str, host: str) -> bool:
    """Whether one item of NO_PROXY fits: `*`, a domain with all below it, HOST:PORT, an address or a network."""
    if exception == "*":
        return True
    name = bare_host(host)
    if ":" in exception and not exception.startswith("[") and exception.count(":") == 1:
        exception, _, port = exception.partition(":")
        if host.rpartition(":")[2] != port:
            return False
    try:
        return ipaddress.ip_address(name) in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        pass
    domain = exception.removeprefix("*").removeprefix(".")
    if exception.startswith((".", "*.")):
        return name.endswith("." + domain)
    return name == domain or name.endswith("." + domain)
