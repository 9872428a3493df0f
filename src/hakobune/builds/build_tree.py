"""What the build image has on top of the run image: more packages, installed on an overlay, as its upper directory."""

from __future__ import annotations

import contextlib
import filecmp
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from hakobune.builds.base_tree import (
    BUILD_UID,
    GROUP_ID,
    RUN_UID,
    TreePlan,
    finish,
    make_folder,
    walk,
)
from hakobune.builds.machine_tool import ALONE, run_tool
from hakobune.builds.package_repository import package_names, write_repository

_INSTALL_BUILD = """
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$UPPER,workdir=$WORK,redirect_dir=off,metacopy=off,index=off,volatile" "$MERGED"
mount -t proc proc "$MERGED/proc"
mount -t tmpfs -o mode=755 tmpfs "$MERGED/dev"
mknod -m 666 "$MERGED/dev/null" c 1 3
mknod -m 666 "$MERGED/dev/urandom" c 1 9
mount -t tmpfs tmpfs "$MERGED/tmp"
mkdir "$MERGED/tmp/packages"
mount --bind "$PACKAGES" "$MERGED/tmp/packages"
printf '#!/bin/sh\\nexit 101\\n' >"$MERGED/usr/sbin/policy-rc.d"
chmod 755 "$MERGED/usr/sbin/policy-rc.d"
exec chroot "$MERGED" /bin/sh -eu -c "$INSIDE"
"""
# apt knows in which order packages can be unpacked; its lists and caches lie in the tmpfs and vanish.
_INSTALL_INSIDE = """
mkdir -p /tmp/lists/partial /tmp/cache/archives/partial
echo 'deb [trusted=yes] file:/tmp/packages ./' >/tmp/packages.list
apt() {{
    apt-get -qq -o APT::Sandbox::User=root -o Dir::State::Lists=/tmp/lists -o Dir::Cache=/tmp/cache \
        -o Dir::Etc::SourceList=/tmp/packages.list -o Dir::Etc::SourceParts=/dev/null \
        -o DPkg::Options::=--force-unsafe-io {left_out} "$@"
}}
apt update
apt install --yes --no-install-recommends {names}
dpkg --audit
sed -i 's/^cnb:[*]:{run_uid}:/cnb:*:{build_uid}:/' /etc/passwd
chown {build_uid}:{group_id} /home/cnb
"""


def make_build_tree(run: Path, packages: Sequence[Path], plan: TreePlan, folder: Path) -> Path:
    """Install *packages* on top of the tree *run*; gives what that changes, as an overlay's upper directory.

    Raises:
        HakoError: dpkg failed; *why* is its last words.
    """
    places = {name: folder / name for name in ("upper", "work", "merged", "packages")}
    for place in places.values():
        make_folder(place)
    write_repository(packages, places["packages"])
    inside = _INSTALL_INSIDE.format(
        left_out=" ".join(
            f"-o 'DPkg::Options::=--path-exclude={glob}'" for glob in plan.left_out_of_build
        ),
        names=" ".join(package_names(places["packages"])),
        run_uid=RUN_UID,
        build_uid=BUILD_UID,
        group_id=GROUP_ID,
    )
    environment = {name.upper(): str(place) for name, place in places.items()}
    run_tool(
        [*ALONE, "/bin/sh", "-eu", "-c", _INSTALL_BUILD],
        {**environment, "LOWER": str(run), "INSIDE": inside},
        plan.epoch,
        "cannot install the build image's packages",
    )
    upper = places["upper"]
    shutil.copystat(run, upper)
    finish(upper, plan.epoch)
    _drop_unchanged(upper, run, plan.epoch)
    return upper


def _drop_unchanged(upper: Path, lower: Path, epoch: int) -> None:
    """Remove from *upper* what is the same in *lower*: files written anew as they were, folders touched in passing.

    So the layer does not depend on what some tool looked at, or tried, on the way.
    """
    for path, entry in walk(upper):
        below = f"{lower}{path[len(str(upper)) :]}"
        try:
            same = _facts(entry) == _facts(os.lstat(below)) and not os.listxattr(
                path, follow_symlinks=False
            )
        except FileNotFoundError:
            continue
        if same and stat.S_ISDIR(entry.st_mode):
            with contextlib.suppress(OSError):  # not empty: something in it is new
                os.rmdir(path)
        elif same and stat.S_ISREG(entry.st_mode) and filecmp.cmp(path, below, shallow=False):
            os.unlink(path)
        os.utime(os.path.dirname(path), (epoch, epoch))


def _facts(entry: os.stat_result) -> tuple[int, ...]:
    size = entry.st_size if stat.S_ISREG(entry.st_mode) else 0
    return entry.st_mode, entry.st_uid, entry.st_gid, int(entry.st_mtime), size
