"""The network of one installation: a bridge, an nftables table, addresses, and cables into network namespaces.

Instances reach the outside (masqueraded) and nothing else: not each other (isolated bridge ports), not the host
(but for DNS), not the machine's metadata service. The host reaches them. Builds and foreground containers get
a cable too, from whichever process needs one, supervisor or not: `Network.join` takes a shared lock on
`run/network.users`, and the last one to leave takes bridge and table away.

Lock order: `run/network.users`, then `run/network.lock`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import ipaddress
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hakobune.errors import HakoError
from hakobune.runtime import linux, netlink
from hakobune.runtime.netlink import Netlink
from hakobune.runtime.resolver import ResolvConf, make_resolv_conf, nameservers
from hakobune.support.locks import exclusive, open_lock, try_exclusive

PREFIX = 20
_SPACE = IPv4Network("10.64.0.0/10")
# The supervisor's containers outlive it, so their addresses are its own to give: what lives is in
# its state files. Everybody else's cable dies with its process, and a held flock is the whole truth.
_GUEST_SHARE = 4  # the last quarter of the subnet
_INTERFACE = "eth0"
_SUFFIX_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_RESOLVED_FILE = Path("/run/systemd/resolve/resolv.conf")
_FIREWALL_TOOLS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NetworkError(HakoError):
    """The installation's network cannot be made or used."""


@dataclass(frozen=True, slots=True)
class Cable:
    """The host's end of a veth pair whose other end is `eth0` of some namespace."""

    name: str
    index: int
    address: str


@dataclass(slots=True)
class Lease:
    """A guest's address, held by a flock until it is released or the process ends."""

    address: IPv4Address
    _descriptor: int

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


# Decisions


def choose_subnet(installation: str, taken: Iterable[IPv4Network]) -> IPv4Network:
    """The installation's subnet: the first from a place that follows from its name that overlaps nothing *taken*.

    Raises:
        NetworkError: all of 10.64.0.0/10 is routed elsewhere.
    """
    taken = tuple(taken)
    count = 1 << (PREFIX - _SPACE.prefixlen)
    start = int.from_bytes(hashlib.sha256(installation.encode()).digest()[:4], "big")
    for step in range(count):
        offset = ((start + step) % count) << (32 - PREFIX)
        subnet = IPv4Network((int(_SPACE.network_address) + offset, PREFIX))
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise NetworkError(
        "no subnet is free for containers",
        why=f"every /{PREFIX} of {_SPACE} overlaps a route of this machine",
    )


def parse_routes(text: str, *, ignoring: str = "") -> tuple[IPv4Network, ...]:
    """The networks of `/proc/net/route` but for the default route and those of the interface *ignoring*."""
    networks = []
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 8 or fields[0] == ignoring:
            continue
        target, mask = (int.from_bytes(bytes.fromhex(f), "little") for f in (fields[1], fields[7]))
        if mask:
            networks.append(IPv4Network((target & mask, mask.bit_count())))
    return tuple(networks)


def instance_addresses(subnet: IPv4Network) -> range:
    """The addresses that the supervisor gives to its containers, as integers."""
    first = int(subnet.network_address)
    return range(first + 2, first + _guest_offset(subnet))


def guest_addresses(subnet: IPv4Network) -> range:
    """The addresses of builds and foreground containers, as integers."""
    first = int(subnet.network_address)
    return range(first + _guest_offset(subnet), int(subnet.broadcast_address))


def _guest_offset(subnet: IPv4Network) -> int:
    return subnet.num_addresses - subnet.num_addresses // _GUEST_SHARE


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


class Network:
    """The network of the installation called *installation*; *run* is its folder for locks."""

    def __init__(self, installation: str, run: Path) -> None:
        self.bridge = f"{installation}br"
        self.table = installation
        self._installation = installation
        self._run = run
        self._subnet: IPv4Network | None = None

    @property
    def subnet(self) -> IPv4Network:
        """Known after `ensure`."""
        if self._subnet is None:
            raise NetworkError("the installation's network has not been made yet")
        return self._subnet

    @property
    def gateway(self) -> IPv4Address:
        """The host's own address on the bridge."""
        return self.subnet.network_address + 1

    def join(self) -> Membership:
        """Make what is missing, and keep it until the membership is left."""
        users = open_lock(self._run / "network.users")
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            self.ensure()
        except BaseException:
            os.close(users)
            raise
        return Membership(self, users)

    def ensure(self) -> None:
        """Make bridge, table, forwarding and docker's exceptions as they should be. Idempotent."""
        with exclusive(self._run / "network.lock"):
            self._subnet = self._ensure_bridge()
            self._ensure_forwarding()
            if not self.has_table():
                _nft(ruleset(self.table, self.bridge, self._subnet))
            self._change_docker_rules(add=True)

    def exists(self) -> bool:
        """Whether the bridge is there."""
        return Path("/sys/class/net", self.bridge).exists()

    def has_table(self) -> bool:
        """Whether the nftables table is there (a firewall's reload takes everybody's away)."""
        return _has_table("inet", self.table)

    def remove(self, *, leaving: Cable | None = None) -> bool:
        """Take bridge and table away if nobody is a member and no container is on the bridge; says whether they are gone.

        Args:
            leaving: a cable that is in nobody's way; without the bridge it leads nowhere, and goes with its namespace.
        """
        users = try_exclusive(self._run / "network.users")
        if users is None:
            return False
        try:
            with exclusive(self._run / "network.lock"):
                return self._remove_if_empty(leaving)
        finally:
            os.close(users)

    def _remove_if_empty(self, leaving: Cable | None) -> bool:
        ports = Path("/sys/class/net", self.bridge, "brif")
        expected = {leaving.name} if leaving else set()
        if ports.exists() and {port.name for port in ports.iterdir()} - expected:
            return False
        with contextlib.suppress(OSError), Netlink() as host:
            host.send([netlink.delete_link(socket.if_nametoindex(self.bridge))])
        if self.has_table():
            _nft(f"delete table inet {self.table}")
        self._change_docker_rules(add=False)
        return True

    def _ensure_bridge(self) -> IPv4Network:
        with contextlib.suppress(OSError):
            return _subnet_of(self.bridge)
        subnet = choose_subnet(self._installation, _taken(self.bridge))
        mac = b"\x02" + hashlib.sha256(self.bridge.encode()).digest()[:5]
        with Netlink() as host:
            if not self.exists():
                host.send([netlink.new_bridge(self.bridge, mac)])
            index = socket.if_nametoindex(self.bridge)
            gateway = (subnet.network_address + 1).packed
            host.send([netlink.add_address(index, gateway, PREFIX), netlink.link_up(index)])
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv6/conf/{self.bridge}/disable_ipv6").write_text("1")
        return subnet

    def _ensure_forwarding(self) -> None:
        switch = Path("/proc/sys/net/ipv4/ip_forward")
        if switch.read_text().strip() != "1":
            switch.write_text("1")

    def _change_docker_rules(self, *, add: bool) -> None:
        iptables = shutil.which("iptables", path=_FIREWALL_TOOLS)
        if iptables is None or not _has_iptables_rules():
            return
        listing = subprocess.run([iptables, "-w", "5", "-S"], capture_output=True, text=True).stdout
        if add:
            changes = missing_docker_rules(listing, self.bridge)
        else:
            changes = tuple(
                ("-D", *line.split()[1:])
                for line in listing.splitlines()
                if line.startswith(("-A DOCKER-USER ", "-A FORWARD "))
                and self.bridge in line.split()
            )
        for change in changes:
            subprocess.run([iptables, "-w", "5", *change], capture_output=True, check=True)

    # cables

    def connect(self, netns_fd: int, address: IPv4Address) -> Cable:
        """Give the namespace an `eth0` with *address* on the bridge, and its default route."""
        bridge = socket.if_nametoindex(self.bridge)
        with Netlink() as host:
            name = self._new_port(host, bridge, netns_fd, _mac_of(address))
            index = socket.if_nametoindex(name)
            try:
                host.send([netlink.isolate_port(index)])
                with inside(netns_fd):
                    inner = socket.if_nametoindex(_INTERFACE)
                    with Netlink() as guest:
                        guest.send(
                            [
                                netlink.link_up(inner),
                                netlink.add_address(inner, address.packed, PREFIX),
                                netlink.default_route(self.gateway.packed),
                            ]
                        )
            except OSError:
                host.send([netlink.delete_link(index)])
                raise
        _await_forwarding(name)
        return Cable(name, index, str(address))

    def _new_port(self, host: Netlink, bridge: int, netns_fd: int, mac: bytes) -> str:
        # Names are never reused: the pair of a namespace that died a moment ago may still be there.
        for _ in range(100):
            suffix = "".join(_SUFFIX_LETTERS[byte & 31] for byte in os.urandom(5))
            name = self._installation + suffix
            try:
                host.send(
                    [
                        netlink.new_veth(
                            name,
                            bridge=bridge,
                            peer=_INTERFACE,
                            peer_mac=mac,
                            peer_netns_fd=netns_fd,
                        )
                    ]
                )
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
            else:
                return name
        raise NetworkError("no name is free for another network interface")

    def disconnect(self, cable: Cable) -> None:
        """Take a cable away now, instead of some time after its namespace. One that is gone is fine."""
        try:
            if socket.if_nametoindex(cable.name) != cable.index:
                return
        except OSError:  # it has no errno: there is no such interface
            return
        with Netlink() as host:
            try:
                host.send([netlink.delete_link(cable.index)])
            except OSError as error:
                if error.errno != errno.ENODEV:
                    raise

    def lease(self) -> Lease:
        """An address for a guest of this process.

        Raises:
            NetworkError: all are taken.
        """
        folder = self._run / "leases"
        choices = guest_addresses(self.subnet)
        start = int.from_bytes(os.urandom(4), "big") % len(choices)
        for step in range(len(choices)):
            address = IPv4Address(choices[(start + step) % len(choices)])
            descriptor = try_exclusive(folder / str(address))
            if descriptor is not None:
                return Lease(address, descriptor)
        raise NetworkError("no address is free for another build or foreground container")

    def resolv_conf(self) -> ResolvConf:
        """The `resolv.conf` for this network's namespaces."""
        host = _read("/etc/resolv.conf") or ""
        return make_resolv_conf(host, upstream=_read(_RESOLVED_FILE), bridge=str(self.gateway))


class Membership:
    """Keeps an installation's network there. Leave it, or end."""

    def __init__(self, network: Network, users: int) -> None:
        self.network = network
        self._users = users

    def leave(self, cable: Cable | None = None) -> bool:
        """Give it up, and a cable with it; the last to leave takes the network away. Says whether it is gone."""
        if self._users < 0:
            return False
        os.close(self._users)
        self._users = -1
        gone = self.network.remove(leaving=cable)
        if cable is not None and not gone:
            self.network.disconnect(cable)
        return gone


@dataclass(frozen=True, slots=True)
class Guest:
    """The network that a namespace of this process's own has, for a time."""

    address: str
    resolv_conf: str


@contextmanager
def guest_network(network: Network, netns_fd: int) -> Iterator[Guest]:
    """Egress for the namespace *netns_fd* while the block lasts, with or without a running supervisor.

    If the host's resolver is on loopback, a DNS forwarder runs on the bridge meanwhile.
    """
    with contextlib.ExitStack() as undo:
        membership = network.join()
        undo.callback(membership.leave)
        lease = network.lease()
        undo.callback(lease.release)
        cable = network.connect(netns_fd, lease.address)
        undo.callback(membership.leave, cable)
        resolv_conf = network.resolv_conf()
        if resolv_conf.needs_forwarder:
            undo.enter_context(forwarder(str(network.gateway)))
        yield Guest(str(lease.address), resolv_conf.text)


def start_forwarder(address: str) -> subprocess.Popen[bytes]:
    """A forwarder that listens on *address* when this returns; it ends when its `stdin` is closed."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "hakobune.runtime.dns", address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


@contextmanager
def forwarder(address: str) -> Iterator[None]:
    """A DNS forwarder on *address* while the block lasts."""
    process = start_forwarder(address)
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@contextmanager
def inside(netns_fd: int) -> Iterator[None]:
    """The calling thread works in another network namespace while the block lasts."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(netns_fd, linux.CLONE_NEWNET)
        try:
            yield
        finally:
            linux.setns(home, linux.CLONE_NEWNET)
    finally:
        os.close(home)


def _await_forwarding(port: str) -> None:
    """Return when a bridge port carries packets, which the kernel sees to a moment after its pair came up.

    The first packet would be lost otherwise, and both ARP and TCP ask again only after a second.
    """
    # A new port counts as forwarding until its missing carrier is noticed: both have to be read, in this order.
    signs = (
        (f"/sys/class/net/{port}/operstate", "up"),
        (f"/sys/class/net/{port}/brport/state", "3"),
    )
    deadline = time.monotonic() + 1.0
    for path, value in signs:
        while (_read(path) or "").strip() != value and time.monotonic() < deadline:
            time.sleep(0.0002)


def _mac_of(address: IPv4Address) -> bytes:
    """The same for every holder of an address, so that a neighbour entry for the last one is right for the next."""
    return b"\x02\x48" + address.packed


def _taken(bridge: str) -> Collection[IPv4Network]:
    """What a new subnet must not cover: routes, and the resolvers (the default route leads to them)."""
    servers = [s for s in nameservers(_read("/etc/resolv.conf") or "") if ":" not in s]
    routes = parse_routes(_read("/proc/net/route") or "", ignoring=bridge)
    return (*routes, *(IPv4Network(server) for server in servers))


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


def _subnet_of(interface: str) -> IPv4Network:
    """The network of the interface's address; OSError if it has none."""
    siocgifaddr = 0x8915
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = interface.encode().ljust(40, b"\0")
        answer = fcntl.ioctl(control, siocgifaddr, request)
    return IPv4Network((ipaddress.IPv4Address(answer[20:24]), PREFIX), strict=False)


def _read(path: str | Path) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


def _tool(name: str) -> str:
    found = shutil.which(name, path=_FIREWALL_TOOLS)
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
