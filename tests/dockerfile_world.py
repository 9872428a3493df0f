"""A small base image of host programs, and folders to build from, for tests of Dockerfiles."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from hakobune.oci.base_layer import write_base_layer
from hakobune.oci.config import ContainerConfig, History, ImageConfig, RootFs, encode_config
from hakobune.oci.manifest import Image
from hakobune.oci.merged import Shown, look_up, names_in
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
            history=(History(created="2020-09-13T12:26:40Z", created_by="tar"),),
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


def listing(store: Store, image: Image, base: Image | None = None) -> dict[str, str]:
    """What an image's root holds, by path, one line each: kind, mode, owner, content, and the time if it is an old one.

    Args:
        base: what is the same there is left out; what is only there is `gone`.
    """
    here = _tree(store, image)
    below = _tree(store, base) if base is not None else {}
    changed = {path: line for path, line in here.items() if below.get(path) != line}
    return dict(sorted({**changed, **dict.fromkeys(below.keys() - here.keys(), "gone")}.items()))


def _tree(store: Store, image: Image) -> dict[str, str]:
    lowers = [str(d) for s in reversed(store.snapshots(image)) for d in s.lower_dirs()]
    found: dict[str, str] = {}
    inodes: dict[tuple[int, int], str] = {}

    def walk(directories: tuple[str, ...], path: str) -> None:
        for name in names_in(directories):
            shown = look_up(directories, name)
            assert shown is not None
            inner = f"{path}/{name}"
            found[inner] = _line(shown, inner, inodes)
            if shown.is_directory:
                walk(shown.merged, inner)

    walk(tuple(lowers), "")
    return found


def _line(shown: Shown, path: str, inodes: dict[tuple[int, int], str]) -> str:
    status = shown.status
    mode = status.st_mode
    words = [f"{stat.S_IMODE(mode):04o}", f"{status.st_uid}:{status.st_gid}"]
    if stat.S_ISDIR(mode):
        words.insert(0, "dir")
    elif stat.S_ISLNK(mode):
        words = ["link", words[1], os.readlink(shown.path)]
    elif stat.S_ISREG(mode):
        data = Path(shown.path).read_bytes()
        text = (
            repr(data.decode())
            if len(data) < 400 and data.isascii()
            else sha256(data).hexdigest()[:16]
        )
        words = ["file", *words, text]
        first = inodes.setdefault((status.st_dev, status.st_ino), path)
        words += [f"= {first}"] if first != path else []
        names = [name for name in os.listxattr(shown.path) if ".overlay." not in name]
        words += [f"{name}={os.getxattr(shown.path, name)!r}" for name in sorted(names)]
    else:
        words.insert(0, "fifo" if stat.S_ISFIFO(mode) else f"special {status.st_rdev:x}")
    # BuildKit's copy of a context does not always keep the times of folders.
    if status.st_mtime < 1_650_000_000 and not stat.S_ISDIR(mode):
        words.append(f"@{int(status.st_mtime)}")
    return " ".join(words)


def described(store: Store, image: Image, base: Image) -> dict[str, object]:
    """An image as it is compared: what it added to *base*, its configuration, its history in the same words."""
    config = image.config
    document = json.loads(encode_config(config))["config"]
    return {
        "tree": listing(store, image, base),
        "config": document,
        "author": config.author,
        "history": [
            f"{'' if line.empty_layer else '+ '}{line.created_by.removesuffix(' # buildkit')}"
            for line in config.history
        ],
        "layers": len(config.rootfs.diff_ids),
    }
