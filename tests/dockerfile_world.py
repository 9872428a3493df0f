"""A small base image of host programs, and folders to build from, for tests of Dockerfiles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import write_base_layer
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.small_root import PROGRAMS, make_small_root

BASE = "small:1"
MORE_PROGRAMS = (*PROGRAMS, "rm", "cp", "mv", "head", "find", "chown", "grep", "true", "wc", "sort", "hostname", "readlink", "printf", "mknod", "tar", "date", "sha256sum", "xargs")  # fmt: skip
OLD = 1_600_000_000  # all of the base image's times


def make_base_image(store: Store, scratch: Path, *, name: str = BASE, **config: object) -> Image:
    """An image of one layer with a shell and a few programs; *config* is of its `ContainerConfig`."""
    root = make_small_root(scratch / "root", programs=MORE_PROGRAMS)
    (root / "usr/bin").mkdir(parents=True, exist_ok=True)
    (root / "usr/bin/env").symlink_to("../../bin/env")
    platform = Platform.host()
    defaults: dict[str, object] = {"env": ("PATH=/usr/bin:/bin",), "cmd": ("/bin/sh",)}
    return store.publish_image(
        config=ImageConfig(
            created="2020-09-13T12:26:40Z",
            architecture=platform.architecture,
            os=platform.os,
            config=ContainerConfig(**{**defaults, **config}),  # type: ignore[arg-type] # the caller's words
            rootfs=RootFs(),
        ),
        layers=[write_base_layer(store, root, latest_mtime=OLD)],
        names=[Reference.parse(name)],
    )


def fill(folder: Path, files: Mapping[str, str]) -> Path:
    """Write text files below *folder*; a name that ends in a slash is an empty folder."""
    for name, text in files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
