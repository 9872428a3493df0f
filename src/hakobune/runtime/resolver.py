"""What a container is told about names: its `resolv.conf` and `hosts`, made from the host's (resolv.conf(5), hosts(5))."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MAX_NAMESERVERS = 3


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The text for `/etc/resolv.conf`, and whether its nameserver is a forwarder that somebody has to run."""

    text: str
    needs_forwarder: bool


def nameservers(text: str) -> tuple[str, ...]:
    """The servers a `resolv.conf` names, in order."""
    return tuple(words[1] for words in _directives(text) if words[0] == "nameserver" and words[1:])


def make_resolv_conf(host: str, *, upstream: str | None, bridge: str) -> ResolvConf:
    """A `resolv.conf` that works from behind *bridge*.

    Servers on the host's loopback and IPv6 servers cannot be reached from there. If none is left, the servers that
    a local resolver itself asks are taken (*upstream*: systemd-resolved's own file), else a forwarder on the bridge.
    """
    search = [" ".join(words) for words in _directives(host) if words[0] in ("search", "options")]
    for text in (host, upstream or ""):
        reachable = [server for server in nameservers(text) if _is_reachable(server)]
        if reachable:
            return ResolvConf(_join(reachable[:MAX_NAMESERVERS], search), needs_forwarder=False)
    return ResolvConf(_join([bridge], search), needs_forwarder=True)


def make_hosts(hostname: str, address: str | None) -> str:
    """A `hosts` file with loopback and the container's own name."""
    lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    if hostname:
        lines.append(f"{address or '127.0.0.1'}\t{hostname}")
    return "\n".join(lines) + "\n"


def _directives(text: str) -> Iterable[list[str]]:
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if words:
            yield words


def _is_reachable(server: str) -> bool:
    return ":" not in server and not server.startswith("127.") and server != "0.0.0.0"


def _join(servers: Iterable[str], search: Iterable[str]) -> str:
    return "".join([*(f"nameserver {server}\n" for server in servers), *(f"{s}\n" for s in search)])
