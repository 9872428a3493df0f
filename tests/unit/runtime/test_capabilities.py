from dataclasses import replace

import pytest

from hakobune.runtime.capabilities import State, in_words, is_older, is_ready, judge
from hakobune.runtime.machine import (
    PROGRAMS,
    Machine,
    PortOwner,
    ProcessMemory,
    Program,
    descendants,
    version_of,
)
from hakobune.settings import Settings

SETTINGS = Settings.from_environment({"HAKO_HOME": "/srv/hako"}, uid=0)
GOOD = Machine(
    uid=0,
    is_admin=True,
    user_namespaces=1000,
    kernel="6.1.0-18-amd64",
    architecture="x86_64",
    python=(3, 11, 2),
    slot_error="",
    overlay_error="",
    cgroup_controllers={"memory": 2, "cpu": 2, "pids": 2},
    has_cgroup2=True,
    seccomp_actions=frozenset({"errno", "allow"}),
    programs={name: Program(f"/usr/bin/{name}", "9.9") for name in PROGRAMS},
    has_debian_keyring=True,
    has_group=True,
    free_bytes=50 << 30,
    port_owners=(),
    localhost_names=True,
    forward_listing="-P FORWARD ACCEPT\n",
    bridge="hako0",
    emulated=("arm64",),
    supervisor=(ProcessMemory("supervisor", 7, 12_000_000),),
)


def found(name, **changes):
    findings = judge(replace(GOOD, **changes), SETTINGS)
    return next(finding for finding in findings if finding.name == name)


def test_a_machine_with_everything_is_ready_and_lacks_nothing():
    findings = judge(GOOD, SETTINGS)

    assert is_ready(findings)
    assert {finding.state for finding in findings} == {State.FOUND}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("root", {"uid": 1000, "is_admin": False}),
        ("root", {"is_admin": False}),
        ("kernel", {"kernel": "5.15.0-generic"}),
        ("user namespaces", {"slot_error": "unshare: Operation not permitted"}),
        ("idmapped overlay", {"overlay_error": "Invalid argument (idmap of /srv)"}),
        ("seccomp", {"seccomp_actions": frozenset()}),
        ("python", {"python": (3, 9, 1)}),
        ("crun", {"programs": {}}),
        ("crun", {"programs": {"crun": Program("/usr/bin/crun", "1.2")}}),
        ("haproxy", {"programs": {"haproxy": Program("/usr/sbin/haproxy", "2.4.22")}}),
        ("nft", {"programs": {}}),
        ("mmdebstrap", {"programs": {}}),
        ("debian keyring", {"has_debian_keyring": False}),
        ("disk", {"free_bytes": 1 << 30}),
        ("port", {"port_owners": (PortOwner(8080, 5, "nginx", ours=False),)}),
        ("forwarding", {"forward_listing": "-P FORWARD DROP\n-N DOCKER-USER\n"}),
    ],
)
def test_what_is_needed_and_missing_makes_the_machine_unready_and_names_an_act(name, changes):
    finding = found(name, **changes)

    assert finding.state is State.MISSING
    assert finding.fix
    assert finding.why
    assert not is_ready((finding,))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("cgroup 2 tree", {"has_cgroup2": False}),
        ("cgroup memory", {"cgroup_controllers": {}}),
        ("seccomp", {"architecture": "riscv64"}),
        ("ip", {"programs": {}}),
        ("*.localhost", {"localhost_names": False}),
        ("group hakobune", {"has_group": False}),
        ("supervisor", {"supervisor": ()}),
    ],
)
def test_what_one_can_do_without_is_said_and_leaves_the_machine_ready(name, changes):
    finding = found(name, **changes)

    assert finding.state is State.WITHOUT
    assert is_ready((finding,))


def test_a_port_that_our_own_haproxy_holds_is_found():
    finding = found("port", port_owners=(PortOwner(8080, 5, "haproxy", ours=True),))

    assert (finding.state, finding.detail) == (State.FOUND, "8080 is ours")


def test_service_ports_of_others_are_named_and_only_all_of_them_are_too_many():
    ports = range(SETTINGS.first_service_port, SETTINGS.last_service_port + 1)
    one = found("service ports", port_owners=(PortOwner(ports[3], None, "", ours=False),))
    everything = tuple(PortOwner(port, None, "", ours=False) for port in ports)

    assert (one.state, one.detail) == (State.FOUND, "18080-18179 but 18083")
    assert found("service ports", port_owners=everything).state is State.MISSING


def test_before_anything_runs_a_dropping_forward_chain_is_no_fault():
    finding = found("forwarding", bridge="", forward_listing="-P FORWARD DROP\n")

    assert finding.state is State.FOUND


def test_our_idle_cost_is_the_sum_of_our_processes():
    processes = (
        ProcessMemory("supervisor", 7, 12_000_000),
        ProcessMemory("controller", 8, 50_000_000),
    )

    assert found("supervisor", supervisor=processes).detail == (
        "runs; our own cost is 62 MB of memory: supervisor 12 MB (pid 7), controller 50 MB (pid 8)"
    )


def test_a_hybrid_machine_is_told_how_crun_is_made_to_run():
    finding = found("crun", cgroup_controllers={"memory": 1}, has_cgroup2=True)

    assert "view of its own" in finding.detail


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17", "2.6.12"),
        ("crun version 1.8.1\ncommit: f8a0", "1.8.1"),
        ("ip utility, iproute2-6.1.0, libbpf 1.1.2", "6.1.0"),
        ("usage: thing", ""),
    ],
)
def test_versions_are_read_from_what_programs_say(text, version):
    assert version_of(text) == version


def test_a_program_that_tells_no_version_is_trusted():
    assert not is_older(Program("/bin/crun", ""), (1, 8))
    assert is_older(Program("/bin/crun", "1.7.9"), (1, 8))
    assert not is_older(Program("/bin/crun", "1.10"), (1, 8))


def test_descendants_are_children_of_children_and_nobody_else():
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 30: 99}

    assert descendants(10, parents) == {10, 11, 12}


def test_sizes_are_said_as_disks_are_sold():
    assert in_words(41_400_000) == "41 MB"
    assert in_words(5_400_000_000) == "5.4 GB"


def test_the_runtime_that_is_asked_for_is_the_one_that_is_looked_for():
    settings = replace(SETTINGS, runtime="runc")
    others = {name: program for name, program in GOOD.programs.items() if name != "runc"}

    there = {finding.name: finding for finding in judge(GOOD, settings)}
    missing = {finding.name: finding for finding in judge(replace(GOOD, programs=others), settings)}

    assert "crun" not in there
    assert there["runc"].state is State.FOUND
    assert missing["runc"].state is State.MISSING
    assert missing["runc"].fix == "apt-get install -y runc"
