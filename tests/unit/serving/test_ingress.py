"""The routing table, HAProxy's files and commands, as values."""

from __future__ import annotations

import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.serving.haproxy_commands import (
    Known,
    closing_commands,
    map_changes,
    opening_commands,
    parse_loads,
    parse_map,
    parse_servers,
    superfluous_servers,
)
from hakobune.serving.haproxy_errors import error_files
from hakobune.serving.haproxy_files import StartUp, start_up_files
from hakobune.serving.ingress import RoutingTable, Server, Share
from hakobune.serving.ingress_program import max_connections

SERVER = Server(name="i1", address="10.0.0.2", port=8080, concurrency=10)


def a_table(*servers: Server, **changes: object) -> RoutingTable:
    fields: dict[str, object] = {
        "hosts": {"shop.localhost": "shop"},
        "ports": {18080: "shop"},
        "routes": {"shop": (Share("r1", 100),)},
        "timeouts_ms": {"r1": 1000},
        "slots": {"r1": 0},
        "servers": {0: servers},
    }
    return RoutingTable(**(fields | changes))  # type: ignore[arg-type] # builder


def a_start(folder: Path) -> StartUp:
    return StartUp(
        folder=folder,
        api_socket=folder / "api.sock",
        registry_socket=folder / "registry.sock",
        grpc_socket=folder / "grpc.sock",
        binds=("127.0.0.1",),
        port=8080,
        service_ports=(18080, 18081, 18083),
        own_hosts=("localhost",),
        slots=4,
    )


def known_of(table: RoutingTable) -> Known:
    servers = {slot: {s.name: s.usable for s in own} for slot, own in table.servers.items()}
    return Known(table.maps(), servers)


def changed_maps(known: Known, table: RoutingTable) -> list[tuple[str, tuple[str, ...], bool]]:
    changes = map_changes(known, table, lambda name: Path(f"/{name}"))
    return [(c.name, c.commands, c.swap) for c in changes]


def test_a_revision_without_a_usable_instance_has_no_slot_in_the_map() -> None:
    asleep = Server(name="i1", address="a", port=1, concurrency=1, usable=False)

    assert a_table(SERVER).maps()["slots"] == {"r1": "s0"}
    assert a_table(asleep).maps()["slots"] == {}
    assert a_table(asleep).maps()["owners"] == {"s0": "r1"}


def test_a_split_route_has_a_hundred_draws() -> None:
    split = {"shop": (Share("r1", 90), Share("r2", 10), Share("r3", 0))}

    routes = a_table(routes=split).maps()["routes"]

    assert routes["shop"] == "*"
    drawn = [routes[f"shop:{n}"] for n in range(100)]
    assert (drawn.count("r1"), drawn.count("r2")) == (90, 10)


def test_an_instance_is_added_without_weight_and_weighed_when_it_is_enabled() -> None:
    added, *rest = opening_commands(Known(), a_table(SERVER))

    assert added.startswith("add server s0/i1 10.0.0.2:8080 weight 0 maxconn 10 ")
    assert rest == [
        "enable health s0/i1",
        "set server s0/i1 state ready",
        "set weight s0/i1 100",
        "set maxconn server s0/i1 10",
    ]


def test_what_is_known_needs_no_command() -> None:
    table = a_table(SERVER)
    known = known_of(table)

    assert opening_commands(known, table) == closing_commands(known, table) == ()
    assert changed_maps(known, table) == []
    assert superfluous_servers(known, table) == ()


def test_one_changed_line_is_one_command_and_several_are_a_swap() -> None:
    known = known_of(a_table(SERVER))

    one = changed_maps(known, a_table(SERVER, routes={"shop": (Share("r2", 100),)}))
    many = changed_maps(known, a_table(SERVER, routes={"shop": (Share("r1", 50), Share("r2", 50))}))

    assert one == [("routes", ("set map /routes shop r2",), False)]
    assert many == [("routes", (), True)]


def test_an_instance_that_is_gone_is_closed_and_then_superfluous() -> None:
    known = known_of(a_table(SERVER))

    assert closing_commands(known, a_table()) == ("set server s0/i1 state maint",)
    assert superfluous_servers(known, a_table()) == ("s0/i1",)


def test_answers_of_the_runtime_socket_are_read() -> None:
    state = "1\n# be_id be_name …\n5 s0 1 again - 2 0 1\n5 s0 2 i1 10.0.0.2 2 0 100\n5 s0 3 i2 10.0.0.3 0 1 0\n5 s0 4 i3 10.0.0.4 2 0 0\n"
    cells = ["s0", "BACKEND", "4", "", "9"] + [""] * 12 + ["UP", "", ""]
    own = ["s0", "i1", "0", "", "7", "", "", "99"] + [""] * 9 + ["UP 1/3", "", ""]

    load = parse_loads("\n".join((",".join(cells), ",".join(own))))[0]

    assert parse_servers(state) == {0: {"i1": True, "i2": False, "i3": False}}
    assert parse_map("0x55 shop r1\n0x56 web r2\n\n") == {"shop": "r1", "web": "r2"}
    assert (load.waiting, load.servers["i1"].running, load.servers["i1"].total) == (4, 7, 99)
    assert load.servers["i1"].up


def test_haproxy_takes_its_sockets_in_the_order_in_which_they_are_asked_for(tmp_path: Path) -> None:
    start = replace(a_start(tmp_path), binds=("127.0.0.1", "::1"), service_ports=(18080,))

    text = start_up_files(start, a_table())[tmp_path / "haproxy.cfg"].decode()

    assert start.listen == ("127.0.0.1:8080", "127.0.0.1:18080", "[::1]:8080", "[::1]:18080")
    assert [line.strip() for line in text.splitlines() if "bind fd@" in line] == [
        "bind fd@3 name 127.0.0.1:8080",
        "bind fd@4 name 127.0.0.1:18080",
        "bind fd@5 name [::1]:8080",
        "bind fd@6 name [::1]:18080",
    ]


@pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="no haproxy")
def test_haproxy_accepts_the_files_with_instances_awake_and_asleep(tmp_path: Path) -> None:
    asleep = Server(name="i2", address="10.0.0.3", port=8080, concurrency=1, h2=True, usable=False)
    start = replace(a_start(tmp_path), service_ports=())
    for path, data in start_up_files(start, a_table(SERVER, asleep)).items():
        path.write_bytes(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = f"exec /usr/sbin/haproxy -c -f {start.configuration} 3<&{listener.fileno()}"
        done = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            pass_fds=[listener.fileno()],
        )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", [502, 503, 504])
def test_haproxys_own_answers_say_their_length(code: int) -> None:
    head, _, body = error_files()[code].partition("\r\n\r\n")

    assert f"content-length: {len(body)}" in head


def test_connections_stay_below_the_open_files() -> None:
    assert max_connections(20_000) * 2 < 20_000
    assert max_connections(1_000_000) == 20_000
