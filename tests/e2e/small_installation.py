"""An installation whose store has two tiny images: `small` (a shell, the users root and app) and `server` (HTTP on 9000)."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import Layer, Owner, Tree, write_layer
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.e2e.installation import Installation, free_ports
from tests.small_root import PROGRAMS, make_small_root

TERMINAL_PROGRAMS = ("stty", "tty", "ps", "head", "wc")


@contextlib.contextmanager
def small_installation(folder: Path, **extra_env: str) -> Iterator[Installation]:
    """The installation; *folder* gets the root file system, and nothing of it runs afterwards."""
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    root = make_small_root(folder / "root", programs=(*PROGRAMS, *TERMINAL_PROGRAMS), server=True)
    home = Path(tempfile.mkdtemp(prefix="hk-", dir="/tmp"))
    installation = Installation(home=home, port=free_ports(42), extra_env=dict(extra_env))
    try:
        with Store(home) as store:
            layer = write_layer(store, [Tree(name="/", directory=root)], owner=Owner(0, 0))
            publish(store, layer, "small", ContainerConfig(cmd=("/bin/sh",), user="app"))
            config = ContainerConfig(
                entrypoint=("/srv",),
                env=("PORT=9000",),
                working_dir="/tmp",
                stop_signal="SIGTERM",
                exposed_ports={"9000/tcp": {}},
            )
            publish(store, layer, "server", config)
        yield installation
    finally:
        installation.hako("serve", "--stop", check=False, timeout_s=60)
        shutil.rmtree(home, ignore_errors=True)


def publish(store: Store, layer: Layer, name: str, config: ContainerConfig) -> None:
    """An image of one layer for this machine."""
    host = Platform.host()
    store.publish_image(
        config=ImageConfig(
            architecture=host.architecture, os=host.os, config=config, rootfs=RootFs()
        ),
        layers=[layer],
        names=[Reference.parse(name)],
    )
