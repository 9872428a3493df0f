"""Bridge, firewall and DNS of an installation, in network namespaces of the test's own: no packet leaves the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from hakobune.runtime import linux
from hakobune.runtime.cable import disconnect, inside
from hakobune.runtime.guest import guest_network
from hakobune.runtime.mount_namespace import make_mounts_private
from hakobune.runtime.network import Network
from hakobune.runtime.slot import IdRange, Slot, make_slot
from hakobune.runtime.subnet import guest_addresses, instance_addresses

pytestmark = pytest.mark.needs_root

OUTSIDE = "203.0.113.1"
METADATA = "169.254.169.254"
RESOLVER_PORT = 53


class World:
    """A host of its own: `outside` is a namespace behind its uplink, which answers on every address that it has."""

    def __init__(self, home: Path) -> None:
        self.network = Network("hakot", home)
        self.outside = make_slot(IdRange(0x7FF00000))
        self._slots = 0
        ip(
            "link add up0 type veth peer name out0",
            f"link set out0 netns /proc/{os.getpid()}/fd/{self.outside.netns_fd}",
            "addr add 203.0.113.2/24 dev up0",
            "link set up0 up",
            "link set lo up",
            f"route add default via {OUTSIDE}",
        )
        with inside(self.outside.netns_fd):
            ip(
                f"addr add {OUTSIDE}/24 dev out0",
                f"addr add {METADATA}/32 dev lo",
                "link set out0 up",
                "link set lo up",
            )
            self.web = _listen(80)
        self.host_server = _listen(8080)
        self.resolver = _listen(RESOLVER_PORT)

    def slot(self) -> Slot:
        self._slots += 1
        return make_slot(IdRange(0x7FE00000 - 65536 * self._slots))

    def instance(self, number: int) -> tuple[Slot, str]:
        """A namespace with a cable, and its address; something listens on its port 8080."""
        slot = self.slot()
        address = IPv4Address(instance_addresses(self.network.subnet)[number])
        self.network.connect(slot.netns_fd, address)
        with inside(slot.netns_fd):
            _listen(8080)
        return slot, str(address)


_LISTENERS: list[socket.socket] = []


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("0.0.0.0", port))
    _LISTENERS.append(listener)
    return listener


def ip(*commands: str) -> None:
    subprocess.run(
        ["ip", "-b", "-"], input="\n".join(commands), text=True, check=True, capture_output=True
    )


def reaches(address: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Whether a connection from the current namespace is taken."""
    try:
        with socket.create_connection((address, port), timeout=timeout_s):
            return True
    except OSError:
        return False


def reaches_from(slot: Slot, address: str, port: int) -> bool:
    with inside(slot.netns_fd):
        return reaches(address, port)


def on_a_host_of_its_own(body: Callable[[World], None]) -> None:
    """Run *body* in a child with own network and mount namespaces; its failure is the test's."""
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWNS)
            make_mounts_private()
            linux.mount("sysfs", "/sys", "sysfs")  # /sys/class/net is the mounter's network's
            body(World(home))
            code = 0
        except BaseException:
            os.write(writer, traceback.format_exc().encode()[-60000:])
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        text = said.read().decode()
    _, status = os.waitpid(child, 0)
    shutil.rmtree(home, ignore_errors=True)
    assert status == 0, text


def test_instances_reach_the_outside_and_nothing_else() -> None:
    def body(world: World) -> None:
        world.network.join()
        first, first_address = world.instance(0)
        _, second_address = world.instance(1)
        gateway = str(world.network.gateway)

        assert reaches_from(first, OUTSIDE, 80)
        assert reaches(first_address, 8080), "the host reaches an instance"
        assert not reaches_from(first, second_address, 8080), "instances are isolated"
        assert not reaches_from(first, gateway, 8080), "the host is closed"
        assert not reaches_from(first, "203.0.113.2", 8080), "by every address of the host's"
        assert not reaches_from(first, METADATA, 80), "the machine's metadata is not theirs"
        assert reaches_from(first, gateway, RESOLVER_PORT), "but DNS is open"

    on_a_host_of_its_own(body)


def test_the_outside_does_not_reach_instances_and_sees_the_hosts_address() -> None:
    def body(world: World) -> None:
        world.network.join()
        slot, address = world.instance(0)
        with inside(world.outside.netns_fd):
            ip(f"route add {world.network.subnet} via 203.0.113.2")

        assert not reaches_from(world.outside, address, 8080)
        with inside(slot.netns_fd):
            connection = socket.create_connection((OUTSIDE, 80), timeout=2)
        peer, (seen, _) = world.web.accept()
        assert seen == "203.0.113.2"
        connection.close()
        peer.close()

    on_a_host_of_its_own(body)


def test_two_installations_do_not_reach_each_other() -> None:
    def body(world: World) -> None:
        world.network.join()
        mine, _ = world.instance(0)
        other = Network("hakou", world.network._run)
        other.join()
        slot = world.slot()
        address = IPv4Address(instance_addresses(other.subnet)[0])
        other.connect(slot.netns_fd, address)
        with inside(slot.netns_fd):
            _listen(8080)

        assert not other.subnet.overlaps(world.network.subnet)
        assert not reaches_from(mine, str(address), 8080)
        assert reaches(str(address), 8080)

    on_a_host_of_its_own(body)


needs_iptables = pytest.mark.skipif(not shutil.which("iptables"), reason="there is no iptables")


@needs_iptables
def test_egress_works_where_docker_drops_what_is_forwarded() -> None:
    def body(world: World) -> None:
        for rule in (
            "-P FORWARD DROP",
            "-N DOCKER-USER",
            "-A DOCKER-USER -j RETURN",
            "-A FORWARD -j DOCKER-USER",
        ):
            subprocess.run(["iptables", *rule.split()], check=True)
        membership = world.network.join()
        world.network.ensure()
        slot, _ = world.instance(0)

        assert reaches_from(slot, OUTSIDE, 80)
        assert _docker_rules().count(world.network.bridge) == 2

        ip(f"link del {world.network.bridge}")
        membership.leave()
        assert _docker_rules().count(world.network.bridge) == 0

    on_a_host_of_its_own(body)


@needs_iptables
def test_docker_that_starts_later_is_noticed_by_the_next_check() -> None:
    def body(world: World) -> None:
        world.network.join()
        slot, _ = world.instance(0)
        subprocess.run(["iptables", "-P", "FORWARD", "DROP"], check=True)
        assert not reaches_from(slot, OUTSIDE, 80)

        world.network.ensure()

        assert reaches_from(slot, OUTSIDE, 80)

    on_a_host_of_its_own(body)


def _docker_rules() -> str:
    return subprocess.run(["iptables", "-S"], capture_output=True, text=True, check=True).stdout


def test_a_flushed_firewall_is_made_again() -> None:
    def body(world: World) -> None:
        world.network.join()
        slot, _ = world.instance(0)
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        assert not world.network.has_table()

        world.network.ensure()

        assert reaches_from(slot, OUTSIDE, 80)
        assert not reaches_from(slot, str(world.network.gateway), 8080)

    on_a_host_of_its_own(body)


def test_a_build_gets_egress_without_a_supervisor_and_leaves_nothing() -> None:
    def body(world: World) -> None:
        slot = world.slot()
        with guest_network(world.network, slot.netns_fd) as guest:
            assert int(IPv4Address(guest.address)) in guest_addresses(world.network.subnet)
            assert "nameserver" in guest.resolv_conf
            assert reaches_from(slot, OUTSIDE, 80)

        assert not world.network.exists()
        assert not world.network.has_table()

    on_a_host_of_its_own(body)


def test_the_last_to_leave_takes_the_network_away() -> None:
    def body(world: World) -> None:
        first = world.network.join()
        second = Network("hakot", world.network._run).join()

        assert not first.leave()
        assert world.network.exists()
        assert second.leave()
        assert not world.network.exists()

    on_a_host_of_its_own(body)


def test_a_network_with_containers_on_it_stays_when_nobody_is_a_member() -> None:
    def body(world: World) -> None:
        membership = world.network.join()
        slot, address = world.instance(0)

        assert not membership.leave(), "a killed supervisor's containers go on"

        assert reaches(address, 8080)
        assert reaches_from(slot, OUTSIDE, 80)

    on_a_host_of_its_own(body)


def test_guests_of_several_processes_have_addresses_of_their_own() -> None:
    def body(world: World) -> None:
        world.network.join()
        mine = [world.network.lease() for _ in range(20)]
        reader, writer = os.pipe()
        if os.fork() == 0:
            linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
            other = Network("hakot", world.network._run)
            other.join()
            theirs = [str(other.lease().address) for _ in range(20)]
            os.write(writer, " ".join(theirs).encode())
            time.sleep(60)
        theirs_now = os.read(reader, 4096).decode().split()

        assert len({str(lease.address) for lease in mine} | set(theirs_now)) == 40

    on_a_host_of_its_own(body)


def test_a_cable_that_is_taken_away_frees_its_address_at_once() -> None:
    def body(world: World) -> None:
        world.network.join()
        address = IPv4Address(instance_addresses(world.network.subnet)[0])
        names = set()
        for _ in range(5):
            slot = world.slot()
            cable = world.network.connect(slot.netns_fd, address)
            names.add(cable.name)
            with inside(slot.netns_fd):
                _listen(8080)
            assert reaches(str(address), 8080)
            disconnect(cable)
            disconnect(cable)
            slot.close()

        assert len(names) == 5, "an interface's name is never used twice"

    on_a_host_of_its_own(body)


def test_the_first_packet_of_a_new_cable_is_not_lost() -> None:
    def body(world: World) -> None:
        world.network.join()
        slow = []
        for number in range(12):
            slot, _ = world.instance(number)
            started = time.monotonic()
            assert reaches_from(slot, OUTSIDE, 80)
            slow.append(time.monotonic() - started > 0.5)  # ARP and TCP ask again after a second

        assert not any(slow)

    on_a_host_of_its_own(body)


def test_any_id_binds_a_low_port_and_loopback_is_up() -> None:
    def body(world: World) -> None:
        slot = world.slot()
        with inside(slot.netns_fd):
            assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text().strip() == "0"
            with socket.create_server(("127.0.0.1", 80)):
                assert reaches("127.0.0.1", 80)

    on_a_host_of_its_own(body)


# DNS


@contextlib.contextmanager
def a_resolver(address: str) -> Iterator[None]:
    """Answers every question with its own bytes reversed, by UDP and by TCP."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 53))
    tcp = socket.create_server((address, 53))

    def answer_udp() -> None:
        with contextlib.suppress(OSError):
            while True:
                question, client = udp.recvfrom(4096)
                udp.sendto(question[::-1], client)

    def answer_tcp() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = tcp.accept()
                peer.sendall(peer.recv(4096)[::-1])
                peer.close()

    for target in (answer_udp, answer_tcp):
        threading.Thread(target=target, daemon=True).start()
    try:
        yield
    finally:
        udp.close()
        tcp.close()


def _use_resolv_conf(text: str) -> None:
    path = Path(tempfile.mkdtemp()) / "resolv.conf"
    path.write_text(text)
    linux.mount(str(path), os.path.realpath("/etc/resolv.conf"), None, linux.MS_BIND)
    shutil.rmtree(path.parent, ignore_errors=True)


def test_a_resolver_on_the_hosts_loopback_is_reached_through_the_bridge() -> None:
    def body(world: World) -> None:
        world.resolver.close()
        _use_resolv_conf("nameserver 127.0.0.1\n")
        slot = world.slot()
        with a_resolver("127.0.0.1"), guest_network(world.network, slot.netns_fd) as guest:
            gateway = str(world.network.gateway)
            assert guest.resolv_conf == f"nameserver {gateway}\n"
            with inside(slot.netns_fd):
                udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                tcp = socket.create_connection((gateway, 53), timeout=5)
            udp.settimeout(5)
            for question in (b"abc", b"defg"):
                udp.sendto(question, (gateway, 53))
                assert udp.recv(4096) == question[::-1]
            tcp.sendall(b"hello")
            assert tcp.recv(4096) == b"olleh"

        assert not reaches(gateway, 53), "the forwarder has ended with its owner"

    on_a_host_of_its_own(body)


def test_two_forwarders_share_the_address_and_one_may_go() -> None:
    def body(world: World) -> None:
        world.resolver.close()
        _use_resolv_conf("nameserver 127.0.0.1\n")
        first, second = world.slot(), world.slot()
        with a_resolver("127.0.0.1"), guest_network(world.network, first.netns_fd):
            with guest_network(world.network, second.netns_fd):
                pass
            with inside(first.netns_fd):
                udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.settimeout(5)
            udp.sendto(b"abc", (str(world.network.gateway), 53))
            assert udp.recv(4096) == b"cba"

    on_a_host_of_its_own(body)
