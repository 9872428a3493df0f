"""The firewall's part of an installation's network: its own nftables table, and docker's exceptions (nft(8), iptables(8))."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from hakobune.runtime import netlink
from hakobune.runtime.netlink import Netlink
from hakobune.runtime.network_error import NetworkError

_TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


# Decisions


def ruleset(table: str, bridge: str, subnet: IPv4Network) -> str:
    """The nftables script that makes the installation's table anew, in one transaction.

    An accept here does not overrule another table's drop, and need not: every chain's policy is accept.
    """
    return f"""
table inet {table} {{}}
delete table inet {table}
table inet {table} {{
  chain from_instances_to_host {{
    type filter hook input priority filter; policy accept;
    iifname != "{bridge}" accept
    ct state established,related accept
    meta l4proto {{ tcp, udp }} th dport 53 accept
    drop
  }}
  chain through_the_host {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" oifname "{bridge}" drop
    iifname "{bridge}" ip daddr 169.254.0.0/16 reject
    iifname "{bridge}" ip saddr != {subnet} drop
    iifname "{bridge}" accept
    oifname "{bridge}" ct state established,related accept
    oifname "{bridge}" drop
  }}
  chain to_the_outside {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {subnet} oifname != "{bridge}" masquerade
  }}
}}
"""


def docker_rules(bridge: str) -> tuple[tuple[str, ...], ...]:
    """The two rules that let our traffic through a FORWARD chain whose policy somebody else made DROP."""
    return (
        ("-i", bridge, "-j", "ACCEPT"),
        ("-o", bridge, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"),
    )


def choose_forward_chain(listing: str) -> str | None:
    """Where those rules belong, from `iptables -S`: `DOCKER-USER` if docker made one, `FORWARD` if it drops, else nowhere."""
    lines = listing.splitlines()
    if "-N DOCKER-USER" in lines:
        return "DOCKER-USER"
    if "-P FORWARD DROP" in lines:
        return "FORWARD"
    return None


def missing_docker_rules(listing: str, bridge: str) -> tuple[tuple[str, ...], ...]:
    """The arguments of the `iptables` calls that are needed after `iptables -S` said *listing*."""
    chain = choose_forward_chain(listing)
    if chain is None:
        return ()
    present = {(line, rule_bridge) for line, rule_bridge in _our_rules(listing, chain)}
    return tuple(
        ("-I", chain, *rule) for rule in docker_rules(bridge) if (rule[0], bridge) not in present
    )


def _our_rules(listing: str, chain: str) -> Iterator[tuple[str, str]]:
    for line in listing.splitlines():
        words = line.split()
        if words[:2] == ["-A", chain] and len(words) > 4 and words[-2:] == ["-j", "ACCEPT"]:
            yield words[2], words[3]


# Effects


def make_table(table: str, bridge: str, subnet: IPv4Network) -> None:
    """Make the installation's table anew, in one transaction.

    Raises:
        NetworkError: there is no `nft`, or it refuses.
    """
    _nft(ruleset(table, bridge, subnet))


def remove_table(table: str) -> None:
    """Take the installation's table away; it is there.

    Raises:
        NetworkError: there is no `nft`, or it refuses.
    """
    _nft(f"delete table inet {table}")


def has_table(table: str) -> bool:
    """Whether the nftables table is there (a firewall's reload takes everybody's away)."""
    return _has_table("inet", table)


def add_docker_rules(bridge: str) -> None:
    """Put in what is missing of docker's exceptions, where they are needed. Idempotent."""
    for iptables, listing in _iptables():
        for change in missing_docker_rules(listing, bridge):
            _change(iptables, change)


def remove_docker_rules(bridge: str) -> None:
    """Take every rule of that bridge out of docker's chains and FORWARD."""
    for iptables, listing in _iptables():
        for line in listing.splitlines():
            ours = bridge in line.split()
            if ours and line.startswith(("-A DOCKER-USER ", "-A FORWARD ")):
                _change(iptables, ("-D", *line.split()[1:]))


def _iptables() -> Iterator[tuple[str, str]]:
    """The program and what it lists now; nothing where it has never been used."""
    iptables = shutil.which("iptables", path=_TOOLS)
    if iptables is not None and _has_iptables_rules():
        command = [iptables, "-w", "5", "-S"]
        yield iptables, subprocess.run(command, capture_output=True, text=True).stdout


def _change(iptables: str, change: tuple[str, ...]) -> None:
    subprocess.run([iptables, "-w", "5", *change], capture_output=True, check=True)


def _has_table(family: str, name: str) -> bool:
    """A kernel that refuses the question has no such table; `nft` itself says what it lacks."""
    try:
        with Netlink(netlink.NETFILTER) as host:
            host.send([netlink.get_table(family, name)])
    except OSError:
        return False
    return True


def _has_iptables_rules() -> bool:
    """Whether anybody has ever set rules with iptables, in either of its forms: asking it costs 5 ms."""
    legacy = _read("/proc/net/ip_tables_names") or ""
    return "filter" in legacy.split() or _has_table("ip", "filter")


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


def _tool(name: str) -> str:
    found = shutil.which(name, path=_TOOLS)
    if found is None:
        raise NetworkError(
            f"cannot make the installation's network: there is no `{name}`",
            fix="install the package nftables",
        )
    return found


def _nft(script: str) -> None:
    answer = subprocess.run([_tool("nft"), "-f", "-"], input=script, capture_output=True, text=True)
    if answer.returncode != 0:
        raise NetworkError("nft refused the installation's table", why=answer.stderr.strip())
