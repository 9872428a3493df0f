"""The installer of Python packages for a builder: the one that set up our own environment, or the same version for another CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from hakobune.builds.builder_image import REPOSITORY
from hakobune.errors import HakoError
from hakobune.oci.platform import Platform

PINNED: Final = REPOSITORY / "scripts/uv.txt"
# Go's name of a CPU -> what uv calls a Linux with glibc on it.
_PLATFORMS: Final = {"amd64": "x86_64-manylinux2014", "arm64": "aarch64-manylinux2014"}


def find_uv(platform: Platform, folder: Path) -> Path:
    """The program `uv` for that CPU; another one's is downloaded into *folder*, checked by the hashes of `scripts/uv.txt`.

    Raises:
        HakoError: ours is missing, or it cannot be downloaded.
    """
    ours = Path(sys.prefix) / "bin/uv"
    if not ours.exists():
        raise HakoError(
            "the builder cannot be made", why=f"{ours} is missing", fix="scripts/bootstrap true"
        )
    if platform.matches(Platform.host()):
        return ours
    done = subprocess.run(
        [
            *(ours, "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--no-cache"),
            *("--only-binary", ":all:", "--python", sys.executable, "--target", folder / "uv"),
            *("--python-platform", _PLATFORMS[platform.architecture], "-r", PINNED),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "NO_COLOR": "1"},
    )
    if done.returncode:
        raise HakoError(
            f"the builder for {platform} cannot be made",
            why="uv for it cannot be downloaded: " + " ".join(done.stderr.split()),
            fix="see that the Python package index can be reached",
        )
    return folder / "uv/bin/uv"
