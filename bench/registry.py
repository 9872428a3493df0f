"""A 500 MB image is pulled from a registry on loopback by us and by docker, and pushed again unchanged.

    .venv/bin/python bench/registry.py [--rounds N] [--size-mb N] [--write]

A pull counts until the image can be run: downloaded, checked and unpacked. Each has a store (ours) or a daemon
(docker's) of its own, and nothing is deleted before the end: a file system is slow right after many deletions.
The image is made of this machine's /usr. Needs root, docker-registry and dockerd.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from harness import (
    ROOT,
    TABLE_HEAD,
    docker_daemon,
    interleave,
    need_docker,
    run,
    timed,
    write_section,
)

from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import Layer, Owner, Tree, write_layer
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store

sys.path.insert(0, str(ROOT))

from tests.real_registry import registry  # the path comes first

# In this order until the size is reached; each is a layer.
TREES = (
    "/usr/bin", "/usr/local/go", "/usr/lib/gcc", "/usr/lib/python3", "/usr/share/doc",
    "/usr/share/locale", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
)  # fmt: skip
HAKO = str(ROOT / "hako")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size-mb", type=int, default=500)
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    arguments = parser.parse_args()
    need_docker()
    with contextlib.ExitStack() as stack:
        scratch = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="hk-", dir="/var/tmp"))
        )
        host = stack.enter_context(registry(scratch / "registry"))
        name = f"{host}/bench/image:1"
        home = scratch / "h"
        with Store(home) as store:
            about = make_image(store, name, arguments.size_mb << 20)
        run([HAKO, "image", "push", "--progress", "none", name], env={"HAKO_HOME": str(home)})
        pulls = interleave(
            {
                "hako image pull": our_pull(scratch, name),
                "docker pull": docker_pull(stack, name),
            },
            rounds=arguments.rounds,
        )
        pushes = interleave(unchanged_pushes(stack, home, name), rounds=5 * arguments.rounds)
    over = pushes["hako image push"].median - pushes["python -I -c pass"].median
    load = os.getloadavg()[0]
    body = "\n".join(
        [
            about,
            "",
            TABLE_HEAD,
            *(one.row(pulls["docker pull"].median) for one in pulls.values()),
            "",
            "Pushed again, unchanged:",
            "",
            TABLE_HEAD,
            *(one.row(pushes["docker push"].median) for one in pushes.values()),
            "",
            f"Targets: pull ≤ 0.5 × docker's; push of an unchanged image ≤ 0.1 s over the interpreter's start ({over:.3f}).",
            "",
            f"{os.cpu_count()} cores, load {load:.1f} at the end.",
        ]
    )
    print(body)
    if arguments.write:
        write_section("Registry", ".venv/bin/python bench/registry.py --write", body)


def make_image(store: Store, name: str, size: int) -> str:
    """An image of about *size* compressed bytes; one line about it."""
    layers: list[Layer] = []
    for tree in filter(os.path.isdir, TREES):
        if sum(layer.blob.size for layer in layers) < size:
            part = Tree(name=tree, directory=Path(tree).resolve())
            layers.append(write_layer(store, [part], owner=Owner(0, 0)))
    image = store.publish_image(
        config=ImageConfig(
            architecture="amd64", os="linux", config=ContainerConfig(), rootfs=RootFs()
        ),
        layers=layers,
        names=[Reference.parse(name)],
    )
    snapshots = store.snapshots(image)
    compressed = sum(layer.blob.size for layer in layers) / 1e6
    unpacked = sum(snapshot.size_bytes for snapshot in snapshots) / 1e6
    entries = sum(snapshot.entries for snapshot in snapshots)
    return f"{len(layers)} layers, {compressed:.0f} MB compressed, {unpacked:.0f} MB unpacked, {entries} entries."


def our_pull(scratch: Path, name: str) -> Callable[[], float]:
    numbers = itertools.count()

    def pull() -> float:
        env = {"HAKO_HOME": str(scratch / f"p{next(numbers)}")}
        seconds = timed(lambda: run([HAKO, "image", "pull", "--progress", "none", name], env=env))
        os.sync()  # what is written back later is nobody's in particular
        return seconds

    return pull


def docker_pull(stack: contextlib.ExitStack, name: str) -> Callable[[], float]:
    def pull() -> float:
        env = stack.enter_context(docker_daemon(network=False))
        seconds = timed(lambda: run(["docker", "pull", "--quiet", name], env=env))
        os.sync()
        return seconds

    return pull


def unchanged_pushes(
    stack: contextlib.ExitStack, home: Path, name: str
) -> Mapping[str, Callable[[], float]]:
    env = {"HAKO_HOME": str(home)}
    docker = stack.enter_context(docker_daemon(network=False))
    run(["docker", "pull", "--quiet", name], env=docker)
    python = [sys.executable, "-I", "-X", "utf8", "-c", "pass"]
    return {
        "python -I -c pass": lambda: timed(lambda: run(python)),
        "hako image push": lambda: timed(lambda: run([HAKO, "image", "push", name], env=env)),
        "docker push": lambda: timed(lambda: run(["docker", "push", "--quiet", name], env=docker)),
    }


if __name__ == "__main__":
    main()
