"""Containers and programs under a real supervisor: what they see, how they end, what is left."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.cli.serve import leftovers, stop_all
from hakobune.runtime.container import ContainerError, ContainerLimits, Mount, Phase, User
from hakobune.runtime.event import EventKind
from hakobune.runtime.pool import POOL_SIZE
from hakobune.runtime.protocol import Reply, decode_reply, encode_request
from hakobune.runtime.supervisor_client import SupervisorClient
from tests.supervised import Supervised, fetch, is_alive, supervised, wait_for

pytestmark = pytest.mark.needs_root


@pytest.fixture(scope="module")
def world(root: Path) -> Iterator[Supervised]:
    with supervised(root) as world:
        world.start()
        yield world


@pytest.fixture
def client(world: Supervised) -> SupervisorClient:
    return world.connect()


# What a container sees


def test_a_container_has_ids_of_its_own_and_no_privileges(
    world: Supervised, client: SupervisorClient
) -> None:
    script = "id; cat /proc/self/uid_map; cat /proc/self/status"

    lines = world.shell(client, script)

    assert lines[0] == "uid=1002(app) gid=1000(app) groups=1000(app)"
    inside, base, size = lines[1].split()
    assert (inside, size) == ("0", "65536")
    assert int(base) > 65536
    status = dict(line.split(":\t", 1) for line in lines[2:] if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapBnd"], 16) == 0x405FB


def test_signals_that_python_ignores_have_their_default_action_inside(
    world: Supervised, client: SupervisorClient
) -> None:
    lines = world.shell(
        client,
        "while read a; do case $a in SigIgn*|SigBlk*) echo $a;; esac; done </proc/self/status",
    )

    assert lines == ["SigBlk: 0000000000000000", "SigIgn: 0000000000000000"]


def test_root_in_a_container_cannot_mount_make_devices_or_write_sysctls(
    world: Supervised, client: SupervisorClient
) -> None:
    script = (
        "touch /owned && stat -c %u:%g /owned;"
        "echo 1 >/proc/sys/kernel/panic || echo no-sysctl;"
        "ls /sys/firmware | cat; cat /proc/kcore && echo kcore"
    )

    lines = world.shell(client, script, user=User(0, 0))

    assert lines[0] == "0:0"
    assert "no-sysctl" in lines
    assert "kcore" not in lines


def test_sysfs_shows_the_containers_own_network_only(
    world: Supervised, client: SupervisorClient
) -> None:
    assert world.shell(client, "ls /sys/class/net") == ["eth0", "lo"]
    assert world.shell(client, "ls /sys/class/net", network=False) == ["lo"]


def test_cgroup_paths_of_the_host_are_hidden(world: Supervised, client: SupervisorClient) -> None:
    lines = world.shell(client, "cat /proc/self/cgroup")

    assert {line.rsplit(":", 1)[1] for line in lines if "pids" in line or "memory" in line} == {"/"}


def test_standard_input_is_empty_and_no_device_of_the_host(
    world: Supervised, client: SupervisorClient
) -> None:
    before = os.stat("/dev/null")

    lines = world.shell(client, "cat; ls -l /proc/self/fd/0")

    assert "pipe:" in lines[0]
    after = os.stat("/dev/null")
    assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_output_can_be_opened_by_name(world: Supervised, client: SupervisorClient) -> None:
    status = world.run(
        client, "byname", "/bin/sh", "-c", "echo one >/dev/stdout; echo two >/dev/stderr"
    )

    said = [(record.stream, record.text) for record in world.records(status)]
    assert sorted(said) == [("stderr", "two"), ("stdout", "one")]


def test_names_are_resolved_by_generated_files(world: Supervised, client: SupervisorClient) -> None:
    lines = world.shell(client, "cat /etc/hosts /etc/hostname; echo x >>/etc/hosts", hostname="web")

    assert lines[0] == "127.0.0.1\tlocalhost"
    assert lines[2].endswith("\tweb")
    assert lines[3] == "web"
    assert "Read-only" in lines[4] or "denied" in lines[4]


def test_a_low_port_needs_no_privilege(world: Supervised, client: SupervisorClient) -> None:
    client.create(world.spec("low", "/srv", env={"PORT": "80"}))
    status = client.start("low")

    assert status.address
    assert b"200 OK" in fetch(status.address, 80)
    client.remove("low", force=True)


def test_files_in_a_bind_keep_their_ids_on_disk(
    world: Supervised, client: SupervisorClient, tmp_path: Path
) -> None:
    shared, secret = tmp_path / "shared", tmp_path / "ro"
    shared.mkdir()
    os.chown(shared, 1002, 1000)
    secret.write_text("read me\n")
    mounts = (
        Mount(source=str(shared), target="/data"),
        Mount(source=str(secret), target="/opt/file", read_only=True),
        Mount(target="/scratch", size_bytes=1 << 20),
    )
    script = "stat -c %u /data; touch /data/new; cat /opt/file; echo x >/opt/file; touch /scratch/a && echo ok"

    lines = world.shell(client, script, mounts=mounts)

    assert lines[0] == "1002"
    assert (shared / "new").stat().st_uid == 1002
    assert "read me" in lines
    assert secret.read_text() == "read me\n"
    assert "ok" in lines  # before or after the error: the two streams have no common order


def test_the_top_is_thrown_away_and_has_its_size(
    world: Supervised, client: SupervisorClient
) -> None:
    script = "dd if=/dev/zero of=/tmp/big bs=1M count=3 2>/dev/null || echo full"

    assert world.shell(client, script, top_bytes=2 << 20) == ["full"]
    assert world.shell(client, "ls /tmp") == []


# How it ends


@pytest.mark.parametrize(
    ("script", "code", "number"), [("exit 7", 7, None), ("kill -9 $$; exit 3", 3, None)]
)
def test_the_exit_code_is_recorded(
    world: Supervised, client: SupervisorClient, script: str, code: int, number: int | None
) -> None:
    status = world.run(client, f"exit{code}", "/bin/sh", "-c", script)

    assert (status.phase, status.exit_code, status.signal) == (Phase.STOPPED, code, number)


def test_a_signal_is_recorded_as_128_and_its_number(
    world: Supervised, client: SupervisorClient
) -> None:
    client.create(world.spec("killed", "/bin/sleep", "100"))
    client.start("killed")

    client.kill("killed", signal.SIGKILL)

    status = client.wait("killed", timeout_s=10)
    assert (status.exit_code, status.signal) == (137, 9)


def test_stopping_waits_for_the_program_that_handles_the_signal(
    world: Supervised, client: SupervisorClient
) -> None:
    script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    client.create(world.spec("polite", "/bin/sh", "-c", script))
    status = client.start("polite")
    wait_for(lambda: world.records(status), "it is ready")

    stopped = client.stop("polite")

    assert stopped.exit_code == 5
    assert [record.text for record in world.records(stopped)] == ["ready", "bye"]


def test_a_first_process_that_ignores_sigterm_is_killed_after_the_timeout(
    world: Supervised, client: SupervisorClient
) -> None:
    client.create(world.spec("stubborn", "/bin/sleep", "100"))
    client.start("stubborn")
    started = time.monotonic()

    stopped = client.stop("stubborn", timeout_s=0.3)

    assert 0.3 <= time.monotonic() - started < 3
    assert stopped.exit_code == 137


def test_a_frozen_container_can_be_thawed_killed_and_stopped(
    world: Supervised, client: SupervisorClient
) -> None:
    client.create(world.spec("ice", "/srv"))
    status = client.start("ice")
    assert status.address
    fetch(status.address)

    assert client.freeze("ice").phase is Phase.FROZEN
    assert client.freeze("ice").phase is Phase.FROZEN
    with pytest.raises(TimeoutError):
        fetch(status.address, timeout_s=0.3)
    assert client.thaw("ice").phase is Phase.RUNNING
    assert b"200 OK" in fetch(status.address)
    client.freeze("ice")
    client.kill("ice", signal.SIGKILL)

    assert client.wait("ice", timeout_s=5).signal == 9


def test_running_out_of_memory_is_told_and_recorded(
    world: Supervised, client: SupervisorClient
) -> None:
    events = client.events()
    script = "dd if=/dev/zero of=/tmp/big bs=1M count=100"

    status = world.run(
        client,
        "hungry",
        "/bin/sh",
        "-c",
        f"exec {script}",
        limits=ContainerLimits(memory_bytes=16 << 20),
        top_bytes=200 << 20,
    )

    assert status.oom_killed
    assert status.exit_code == 137
    kinds = [e.kind for e in itertools.takewhile(lambda e: e.kind is not EventKind.EXITED, events)]
    assert EventKind.OOM in kinds


def test_a_fork_storm_meets_its_limit(world: Supervised, client: SupervisorClient) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.2 & done; wait; echo survived"

    lines = world.shell(client, script, limits=ContainerLimits(pids=6))

    assert any("ork" in line for line in lines)


@pytest.mark.parametrize(
    ("program", "kind"),
    [("/nope", "no_command"), ("nope", "no_command"), ("/etc/passwd", "not_executable")],
)
def test_a_program_that_cannot_be_executed_says_why_and_leaves_nothing(
    world: Supervised, client: SupervisorClient, program: str, kind: str
) -> None:
    with pytest.raises(ContainerError) as caught:
        client.create(world.spec("bad", program))

    assert caught.value.kind == kind
    assert not (world.settings.home / "containers/bad").exists()
    assert "bad" not in [status.id for status in client.list()]


def test_a_share_of_a_cpu_is_kept_to(world: Supervised, client: SupervisorClient) -> None:
    client.create(
        world.spec("slow", "/bin/sh", "-c", "while :; do :; done", limits=ContainerLimits(cpus=0.2))
    )
    status = client.start("slow")
    time.sleep(0.3)
    before = _cpu_seconds(status.pid)

    time.sleep(1.0)

    assert _cpu_seconds(status.pid) - before < 0.4
    client.remove("slow", force=True)


def _cpu_seconds(pid: int | None) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_file_with_a_capability_that_nobody_has_runs_without_it(
    world: Supervised, client: SupervisorClient, tmp_path: Path
) -> None:
    tool = tmp_path / "tool"
    shutil.copy(world.root / "bin/id", tool)
    net_raw = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # as setcap writes cap_net_raw+ep
    os.setxattr(tool, "security.capability", net_raw)
    layer = tmp_path / "layer"
    layer.mkdir()
    shutil.copy2(tool, layer / "tool")
    os.setxattr(layer / "tool", "security.capability", net_raw)
    (layer / "tool").chmod(0o755)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    spec = dataclasses.replace(
        world.spec("capable", "/tool", "-u"), lowers=(str(layer), str(world.root))
    )

    client.create(spec)
    client.start("capable")
    status = client.wait("capable", timeout_s=10)

    assert status.exit_code == 0, [record.text for record in world.records(status)]


def test_a_setuid_program_gains_nothing(
    world: Supervised, client: SupervisorClient, tmp_path: Path
) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    shutil.copy(world.root / "bin/id", layer / "become")
    (layer / "become").chmod(0o4755)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    spec = dataclasses.replace(
        world.spec("setuid", "/become", "-u"), lowers=(str(layer), str(world.root))
    )

    client.create(spec)
    client.start("setuid")
    status = client.wait("setuid", timeout_s=10)

    assert [record.text for record in world.records(status)] == ["1002"]


def test_the_socket_is_for_root_and_the_group_alone(world: Supervised) -> None:
    mode = world.settings.supervisor_socket.stat().st_mode & 0o777

    assert mode in (0o600, 0o660)
    assert world.settings.supervisor_socket.stat().st_uid == 0


def test_other_users_of_the_machine_cannot_read_a_containers_folder(
    world: Supervised, client: SupervisorClient
) -> None:
    client.create(world.spec("private", "/bin/sleep", "9", env={"SECRET": "x"}))

    assert (world.settings.home / "containers/private").stat().st_mode & 0o077 == 0
    client.remove("private", force=True)


# Life


def test_a_created_container_waits_and_starts_once(
    world: Supervised, client: SupervisorClient
) -> None:
    created = client.create(world.spec("ready", "/bin/sh", "-c", "echo go"))
    time.sleep(0.1)
    before = world.records(created)

    started = client.start("ready")

    assert (created.phase, before) == (Phase.CREATED, [])
    assert started.phase is Phase.RUNNING
    assert client.wait("ready", timeout_s=5).exit_code == 0
    with pytest.raises(ContainerError, match="cannot start"):
        client.start("ready")


def test_a_created_container_can_be_removed_unstarted(
    world: Supervised, client: SupervisorClient
) -> None:
    created = client.create(world.spec("never", "/bin/sleep", "9"))
    assert created.pid

    client.remove("never", force=True)

    assert not is_alive(created.pid)
    assert not (world.settings.home / "containers/never").exists()


def test_an_id_is_used_once(world: Supervised, client: SupervisorClient) -> None:
    client.create(world.spec("twin", "/bin/sleep", "9"))

    with pytest.raises(ContainerError) as caught:
        client.create(world.spec("twin", "/bin/sleep", "9"))

    assert caught.value.kind == "exists"
    client.remove("twin", force=True)


def test_containers_are_created_at_the_same_time_while_others_are_answered(
    world: Supervised, client: SupervisorClient
) -> None:
    specs = [world.spec(f"both{n}", "/bin/sleep", "9").to_json() for n in range(2)]
    requests = [encode_request(n, "create", {"spec": spec}) for n, spec in enumerate(specs)]
    requests.append(encode_request(2, "hello", {}))

    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(world.settings.supervisor_socket))
        connection.sendall(b"".join(requests))
        with connection.makefile("rb") as lines:
            replies = [decode_reply(lines.readline()) for _ in requests]

    order = [reply.id for reply in replies if isinstance(reply, Reply)]
    assert order[0] == 2
    assert sorted(order) == [0, 1, 2]
    for number in range(2):
        client.remove(f"both{number}", force=True)


def test_containers_are_listed_by_their_labels(world: Supervised, client: SupervisorClient) -> None:
    client.create(world.spec("red", "/bin/sleep", "9", labels={"colour": "red"}))
    client.create(world.spec("blue", "/bin/sleep", "9", labels={"colour": "blue"}))

    assert [status.id for status in client.list({"colour": "red"})] == ["red"]

    for id in ("red", "blue"):
        client.remove(id, force=True)


def test_listening_sockets_are_shown_with_who_listens(
    world: Supervised, client: SupervisorClient
) -> None:
    client.create(world.spec("local", "/srv", "127.0.0.1", env={"PORT": "5000"}))
    client.start("local")
    wait_for(lambda: client.sockets("local"), "it listens")

    (found,) = client.sockets("local")

    assert (found.address, found.port, found.command) == ("127.0.0.1", 5000, "/srv 127.0.0.1")
    client.remove("local", force=True)


def test_what_is_removed_on_exit_is_forgotten(world: Supervised, client: SupervisorClient) -> None:
    events = client.events()
    client.create(world.spec("brief", "/bin/sh", "-c", "exit 0", remove_on_exit=True))
    client.start("brief")

    next(event for event in events if event.kind is EventKind.REMOVED)
    assert "brief" not in [status.id for status in client.list()]
    assert not (world.settings.home / "containers/brief").exists()


def test_a_log_of_the_owners_survives_the_containers_that_share_it(
    world: Supervised, client: SupervisorClient, tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "revision"
    for id in ("one", "two"):
        world.run(client, id, "/bin/sh", "-c", f"echo from {id}", log_path=str(log))
        client.remove(id)

    status = world.run(client, "three", "/bin/sh", "-c", "echo last", log_path=str(log))

    said = [(record.container, record.text) for record in world.records(status)]
    assert said == [("one", "from one"), ("two", "from two"), ("three", "last")]


def test_a_great_log_is_turned_over(world: Supervised, client: SupervisorClient) -> None:
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"

    status = world.run(client, "talker", "/bin/sh", "-c", script, log_bytes=100_000)

    path = Path(status.log_path)
    assert path.stat().st_size <= 100_000
    assert path.with_name("log.1").exists()
    texts = [record.text for record in world.records(status)]
    assert texts[-1] == "line 2999"
    assert texts == [f"line {n}" for n in range(3000 - len(texts), 3000)]


def test_many_starts_leave_no_mount_in_the_supervisor(
    world: Supervised, client: SupervisorClient
) -> None:
    pid = client.hello()["pid"]
    mounts = Path(f"/proc/{pid}/mountinfo")
    world.run(client, "warm", "/bin/sh", "-c", "exit 0")
    wait_for(lambda: client.hello()["ready_berths"] == POOL_SIZE, "the pool is full")
    before = len(mounts.read_text().splitlines())
    open_before = len(os.listdir(f"/proc/{pid}/fd"))

    for number in range(10):
        world.run(client, f"many{number}", "/bin/sh", "-c", "exit 0")

    assert len(mounts.read_text().splitlines()) == before
    wait_for(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= open_before, "descriptors are closed")


# Programs


def test_a_program_that_ends_is_started_again_with_back_off(client: SupervisorClient) -> None:
    client.start_program("flapping", ["/bin/sh", "-c", "echo once; exit 3"])

    wait_for(lambda: client.programs()[0].restarts >= 2, "it is started again")

    program = next(p for p in client.programs() if p.name == "flapping")
    assert Path(program.log_path).read_text().startswith("once\nonce\n")
    client.stop_program("flapping")
    assert "flapping" not in [p.name for p in client.programs()]


def test_starting_the_same_program_again_changes_nothing_and_another_command_replaces_it(
    client: SupervisorClient,
) -> None:
    first = client.start_program("prog", ["sleep", "1000"])
    again = client.start_program("prog", ["sleep", "1000"])
    client.start_program("prog", ["sleep", "2000"])

    assert first.pid == again.pid
    assert first.pid

    def replaced() -> bool:
        (program,) = client.programs()
        return program.running and program.pid != first.pid

    wait_for(replaced, "the new command runs")
    client.stop_program("prog")
    assert not is_alive(first.pid)


def test_a_program_sees_the_hosts_mounts_and_cgroups(
    client: SupervisorClient,
) -> None:
    program = client.start_program("seer", ["sleep", "1000"])

    ours = os.readlink("/proc/self/ns/mnt")
    wait_for(lambda: os.readlink(f"/proc/{program.pid}/ns/mnt") == ours, "it is in our namespace")

    client.stop_program("seer")


def test_a_programs_children_end_with_it(client: SupervisorClient) -> None:
    program = client.start_program("parent", ["/bin/sh", "-c", "sleep 1000 & echo $!; wait"])
    log = Path(program.log_path)
    wait_for(lambda: log.exists() and log.read_text().strip(), "it has a child")
    child = int(log.read_text())

    client.stop_program("parent")

    wait_for(lambda: not is_alive(child), "the child has ended")


# The end


def test_stopping_ends_everything_and_proves_it(root: Path) -> None:
    with supervised(root) as world:
        client = world.start()
        created = client.create(world.spec("a", "/srv"))
        client.start("a")
        waiting = client.create(world.spec("b", "/srv"))
        program = client.start_program("prog", ["sleep", "1000"])
        assert leftovers(world.settings)

        assert stop_all(world.settings)

        assert leftovers(world.settings) == ()
        for pid in (created.pid, waiting.pid, program.pid):
            assert pid
            assert not is_alive(pid)
        assert not world.settings.supervisor_socket.exists()
        assert not stop_all(world.settings)


def test_sigterm_ends_everything(root: Path) -> None:
    with supervised(root) as world:
        client = world.start()
        status = client.create(world.spec("a", "/srv"))
        fetch(client.start("a").address or "")
        assert world.process
        assert status.pid

        world.process.terminate()

        assert world.process.wait(20) == 0
        assert not is_alive(status.pid)
        assert leftovers(world.settings) == ()


def test_a_second_supervisor_of_the_same_home_is_refused(world: Supervised) -> None:
    env = {**os.environ, "HAKO_HOME": str(world.settings.home)}

    second = subprocess.run(
        [sys.executable, "-I", "-m", "hakobune.runtime.supervisor"],
        env=env,
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert second.returncode == 1
    assert "already serves" in second.stderr


def test_two_installations_do_not_meet(world: Supervised, root: Path) -> None:
    client = world.connect()
    with supervised(root) as other:
        theirs = other.start()
        mine, foreign = client.hello(), theirs.hello()
        status = theirs.create(other.spec("same", "/srv"))
        theirs.start("same")

        assert mine["bridge"] != foreign["bridge"]
        assert mine["subnet"] != foreign["subnet"]
        assert status.address
        assert b"200 OK" in fetch(status.address)
        assert "same" not in [s.id for s in client.list()]


def test_a_message_of_another_version_is_refused_in_words(world: Supervised) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(world.settings.supervisor_socket))
        connection.sendall(b'{"v":99,"id":1,"verb":"hello"}\n')
        answer = connection.recv(65536)

    assert b"version 99" in answer
    assert b"hako serve --stop" in answer


def test_an_unknown_verb_and_nonsense_arguments_are_errors_not_ends(
    client: SupervisorClient,
) -> None:
    with pytest.raises(ContainerError, match="knows no verb"):
        client._call("explode")
    with pytest.raises(ContainerError, match="cannot understand"):
        client._call("start")
    with pytest.raises(ContainerError, match="no container"):
        client.start("nobody")

    assert client.hello()["pid"]
