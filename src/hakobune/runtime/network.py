"""The network of one installation: a bridge, an nftables table, addresses, and cables into network namespaces.

Instances reach the outside (masqueraded) and nothing else: not each other (isolated bridge ports), not the host
(but for DNS), not the machine's metadata service. The host reaches them. Builds and foreground containers get
a cable too, from whichever process needs one, supervisor or not: `Network.join` takes a shared lock on
`run/network.users`, and the last one to leave takes bridge and table away.

Lock order: `run/network.users`, then `run/network.lock`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from hakobune.runtime import netlink
from hakobune.runtime.cable import Cable, connect, disconnect
from hakobune.runtime.firewall import (
    add_docker_rules,
    has_table,
    make_table,
    remove_docker_rules,
    remove_table,
)
from hakobune.runtime.lease import Lease, take_lease
from hakobune.runtime.netlink import Netlink
from hakobune.runtime.network_error import NetworkError
from hakobune.runtime.resolver import ResolvConf, make_resolv_conf, nameservers
from hakobune.runtime.subnet import PREFIX, choose_subnet, parse_routes
from hakobune.support.locks import exclusive, open_lock, try_exclusive

_RESOLVED_FILE = Path("/run/systemd/resolve/resolv.conf")


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
                make_table(self.table, self.bridge, self._subnet)
            add_docker_rules(self.bridge)

    def exists(self) -> bool:
        """Whether the bridge is there."""
        return Path("/sys/class/net", self.bridge).exists()

    def has_table(self) -> bool:
        """Whether the nftables table is there (a firewall's reload takes everybody's away)."""
        return has_table(self.table)

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
            remove_table(self.table)
        remove_docker_rules(self.bridge)
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

    def connect(self, netns_fd: int, address: IPv4Address) -> Cable:
        """Give the namespace an `eth0` with *address* on the bridge, and its default route."""
        return connect(
            self.bridge, netns_fd, address, gateway=self.gateway, prefix=self._installation
        )

    def lease(self) -> Lease:
        """An address for a guest of this process.

        Raises:
            NetworkError: all are taken.
        """
        return take_lease(self._run / "leases", self.subnet)

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
            disconnect(cable)
        return gone


def _taken(bridge: str) -> Collection[IPv4Network]:
    """What a new subnet must not cover: routes, and the resolvers (the default route leads to them)."""
    servers = [s for s in nameservers(_read("/etc/resolv.conf") or "") if ":" not in s]
    routes = parse_routes(_read("/proc/net/route") or "", ignoring=bridge)
    return (*routes, *(IPv4Network(server) for server in servers))


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
