"""A container starts and its static C server answers the first 200: ours in four ways, `docker run -p`.

    .venv/bin/python bench/container_start.py [--rounds N] [--write]

Every round takes each once. `hako container run -d` and `docker run -d -p` are whole command lines, which is the
fair pair; the other rows are what the controller gets over the supervisor's socket. Needs root, crun and gcc;
docker is left out where no `dockerd` is on PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness import ROOT, TABLE_HEAD, docker_daemon, interleave, run, write_section

from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import File, Owner, write_layer
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.runtime import linux
from hakobune.runtime.container import ContainerLimits, ContainerSpec, User
from hakobune.runtime.mount_namespace import make_mounts_private
from hakobune.runtime.slot import set_interface_up
from hakobune.runtime.supervisor_client import SupervisorClient, SupervisorUnavailableError
from hakobune.settings import Settings

DOCKER = "docker run -d -p"
COMMAND = "hako container run -d"
COLD, CREATED, FROZEN = "create, start", "start of a created one", "thaw of a frozen one"
IMAGE = "server"
FIRST_PORT = 23400


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    arguments = parser.parse_args()
    enter_a_network_of_its_own()
    with contextlib.ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp"))
        )
        compile_server(scratch / "srv")
        measures = dict(stack.enter_context(ours(scratch)))
        if shutil.which("dockerd"):
            measures[DOCKER] = stack.enter_context(docker(scratch))
        series = interleave(measures, rounds=arguments.rounds)
    base = series[DOCKER].median if DOCKER in series else None
    body = "\n".join([TABLE_HEAD, *(one.row(base) for one in series.values())])
    body += f"\n\nRatios are to `{DOCKER}`." if base else ""
    print(body)
    if arguments.write:
        write_section("Container start", ".venv/bin/python bench/container_start.py --write", body)


def enter_a_network_of_its_own() -> None:
    """Docker's and our bridges and rules are made where they are in nobody's way, and go with this process."""
    linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWNS)
    make_mounts_private()
    linux.mount("/sys/fs/cgroup", "/mnt", None, linux.MS_BIND | linux.MS_REC)
    linux.mount("sysfs", "/sys", "sysfs")  # shows the network of its mounter
    linux.mount("/mnt", "/sys/fs/cgroup", None, linux.MS_BIND | linux.MS_REC)
    set_interface_up("lo")


def compile_server(target: Path) -> None:
    run(["gcc", "-Os", "-static", "-s", str(ROOT / "bench/server.c"), "-o", str(target)])


@contextlib.contextmanager
def ours(scratch: Path) -> Iterator[Mapping[str, Callable[[], float]]]:
    """The measures of an installation of its own."""
    home = scratch / "h"
    env = {**os.environ, "HAKO_HOME": str(home)}
    settings = Settings.from_environment(env, uid=0)
    with Store(home) as store:
        data = (scratch / "srv").read_bytes()
        layer = write_layer(store, [File(name="/srv", content=data, mode=0o755)], owner=Owner(0, 0))
        image = store.publish_image(
            config=ImageConfig(
                architecture="amd64",
                os="linux",
                config=ContainerConfig(entrypoint=("/srv",), user="1002:1000"),
                rootfs=RootFs(),
            ),
            layers=[layer],
            names=[Reference.parse(IMAGE)],
        )
        lowers = tuple(str(d) for s in reversed(store.snapshots(image)) for d in s.lower_dirs())
    command = [sys.executable, "-I", "-m", "hakobune.runtime.supervisor"]
    supervisor = subprocess.Popen(command, env=env)
    try:
        client = _connect(settings)
        yield {
            COMMAND: lambda: _by_command(client, env),
            COLD: lambda: _cold(client, lowers),
            CREATED: lambda: _created(client, lowers),
            FROZEN: lambda: _frozen(client, lowers),
        }
        client.shutdown(timeout_s=2)
    finally:
        supervisor.terminate()
        supervisor.wait(30)


def _connect(settings: Settings) -> SupervisorClient:
    deadline = time.monotonic() + 10
    while True:
        client = SupervisorClient(settings.supervisor_socket)
        try:
            while client.hello()["ready_berths"] < 8:
                time.sleep(0.01)
        except SupervisorUnavailableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return client


def _spec(lowers: tuple[str, ...]) -> ContainerSpec:
    limits = ContainerLimits(memory_bytes=256 << 20, cpus=1, pids=100)
    return ContainerSpec(
        id=f"c{next(_NUMBERS)}",
        lowers=lowers,
        argv=("/srv",),
        user=User(1002, 1000),
        limits=limits,
        top_bytes=32 << 20,
    )


_NUMBERS = itertools.count()


def _cold(client: SupervisorClient, lowers: tuple[str, ...]) -> float:
    spec = _spec(lowers)
    begun = time.perf_counter()
    client.create(spec)
    status = client.start(spec.id)
    return _answered(begun, client, spec.id, status.address)


def _created(client: SupervisorClient, lowers: tuple[str, ...]) -> float:
    spec = _spec(lowers)
    client.create(spec)
    begun = time.perf_counter()
    status = client.start(spec.id)
    return _answered(begun, client, spec.id, status.address)


def _frozen(client: SupervisorClient, lowers: tuple[str, ...]) -> float:
    spec = _spec(lowers)
    client.create(spec)
    status = client.start(spec.id)
    _wait_for_200(status.address or "", 8080)
    client.freeze(spec.id)
    begun = time.perf_counter()
    client.thaw(spec.id)
    return _answered(begun, client, spec.id, status.address)


def _by_command(client: SupervisorClient, env: Mapping[str, str]) -> float:
    name = f"r{next(_NUMBERS)}"
    begun = time.perf_counter()
    limits = ["--memory", "256m", "--cpus", "1"]
    run([str(ROOT / "hako"), "container", "run", "-d", "--name", name, *limits, IMAGE], env=env)
    return _answered(begun, client, name, client.get(name).address)


def _answered(begun: float, client: SupervisorClient, id: str, address: str | None) -> float:
    assert address
    _wait_for_200(address, 8080)
    seconds = time.perf_counter() - begun
    client.remove(id, force=True)
    while client.hello()["ready_berths"] < 8:
        time.sleep(0.005)
    return seconds


def _wait_for_200(address: str, port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection(address, port, timeout=5)
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            time.sleep(0.0003)
        finally:
            connection.close()
    raise SystemExit(f"nothing answers on {address}:{port}")


@contextlib.contextmanager
def docker(scratch: Path) -> Iterator[Callable[[], float]]:
    """`docker run -d -p` with the same limits, on a daemon of our own."""
    with docker_daemon() as env:
        folder = scratch / "image"
        folder.mkdir()
        shutil.copy(scratch / "srv", folder / "srv")
        (folder / "Dockerfile").write_text('FROM scratch\nCOPY srv /srv\nENTRYPOINT ["/srv"]\n')
        archive = scratch / "image.tar"
        run(["tar", "-C", str(folder), "-cf", str(archive), "srv"])
        run(
            ["docker", "import", "-c", 'ENTRYPOINT ["/srv"]', str(archive), "bench/server"], env=env
        )
        yield lambda: _by_docker(env)


def _by_docker(env: Mapping[str, str]) -> float:
    number = next(_NUMBERS)
    name, port = f"bench{number}", FIRST_PORT + number
    limits = ["--memory", "256m", "--cpus", "1", "--pids-limit", "100"]
    publish = ["-p", f"127.0.0.1:{port}:8080"]
    begun = time.perf_counter()
    run(["docker", "run", "-d", "--name", name, *publish, *limits, "bench/server"], env=env)
    _wait_for_200("127.0.0.1", port)
    seconds = time.perf_counter() - begun
    run(["docker", "rm", "-f", name], env=env)
    return seconds


if __name__ == "__main__":
    main()
