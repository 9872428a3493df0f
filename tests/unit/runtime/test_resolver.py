from __future__ import annotations

from hakobune.runtime.resolver import make_hosts, make_resolv_conf, nameservers

BRIDGE = "10.79.0.1"


def test_servers_that_a_container_reaches_are_copied_with_search_and_options() -> None:
    host = "# made by hand\nsearch lan example.org\nnameserver 192.0.2.53 ; first\noptions edns0\nnameserver 192.0.2.54\n"

    found = make_resolv_conf(host, upstream=None, bridge=BRIDGE)

    assert not found.needs_forwarder
    assert found.text == (
        "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch lan example.org\noptions edns0\n"
    )


def test_behind_a_local_stub_the_servers_that_it_asks_are_used() -> None:
    found = make_resolv_conf(
        "nameserver 127.0.0.53\n", upstream="nameserver 192.0.2.53\n", bridge=BRIDGE
    )

    assert (found.text, found.needs_forwarder) == ("nameserver 192.0.2.53\n", False)


def test_a_resolver_on_loopback_alone_needs_a_forwarder() -> None:
    for host in ("nameserver 127.0.0.1\n", "nameserver ::1\n", "nameserver fd00::53\n", ""):
        found = make_resolv_conf(host, upstream=None, bridge=BRIDGE)

        assert (found.text, found.needs_forwarder) == (f"nameserver {BRIDGE}\n", True)


def test_the_c_library_reads_three_servers_so_three_are_given() -> None:
    host = "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6))

    assert len(nameservers(make_resolv_conf(host, upstream=None, bridge=BRIDGE).text)) == 3


def test_hosts_name_loopback_and_the_container() -> None:
    assert make_hosts("web", "10.79.0.5").splitlines()[-1] == "10.79.0.5\tweb"
    assert make_hosts("web", None).splitlines()[-1] == "127.0.0.1\tweb"
