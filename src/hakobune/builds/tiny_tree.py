"""The root file system of the tiny image: the files of a few packages, linked from the run image's, without a package manager."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hakobune.builds.base_tree import USER, USER_HOME, TreePlan, finish, make_folder, write_text
from hakobune.errors import HakoError

CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"
_TINY_CONFIGURATION = ("etc/nsswitch.conf", CA_BUNDLE)
# A shell script for people who log in.
_NOT_IN_TINY = "etc/update-motd.d"
_TINY_USERS = ("root", "nobody", USER, "nogroup")


def make_tiny_tree(run: Path, plan: TreePlan, folder: Path) -> Path:
    """The files of the tiny image's packages, as hard links into *run*, which must not change any more."""
    tree = folder / "tiny"
    make_folder(tree)
    database = run / "var/lib/dpkg"
    listed = (path for name in plan.tiny for path in _package_files(database, name))
    for path in sorted({*listed, *_TINY_CONFIGURATION, USER_HOME[1:]}):
        if path.startswith(_NOT_IN_TINY):
            continue
        _link_into(run, tree, path)
    for name in ("passwd", "group"):
        write_text(tree, f"etc/{name}", _tiny_accounts((run / "etc" / name).read_text()))
    # OpenSSL looks for this name; there is no `openssl rehash` and none of its links here.
    make_folder(tree / "usr/lib/ssl")
    os.symlink(f"/{CA_BUNDLE}", tree / "usr/lib/ssl/cert.pem")
    # Scanners of images without a package manager read this.
    for name, stanza in _stanzas(database / "status", plan.tiny):
        write_text(tree, f"var/lib/dpkg/status.d/{name}", stanza)
    for name in ("tmp", "var/tmp"):
        make_folder(tree / name)
        (tree / name).chmod(0o1777)
    finish(tree, plan.epoch)
    return tree


def _package_files(database: Path, name: str) -> tuple[str, ...]:
    """The paths of an installed package, without the leading slash."""
    for file in (database / f"info/{name}.list", *database.glob(f"info/{name}:*.list")):
        if file.exists():
            return tuple(line[1:] for line in file.read_text().splitlines() if len(line) > 2)
    raise HakoError(
        f"cannot make the tiny run image: {name} is not among the run image's packages",
        fix="name it under packages.run in builders/debian/base.toml and run builders/debian/lock",
    )


def _link_into(source: Path, target: Path, path: str) -> None:
    """Make *path* and its folders in *target* as they are in *source*; what was left out there is skipped."""
    # Packages name files under /lib and /bin, which are links into /usr.
    real = os.path.realpath(source / os.path.dirname(path))
    found, made = Path(real, os.path.basename(path)), target / path
    try:
        entry = found.lstat()
    except FileNotFoundError:
        return
    inside = Path(real).relative_to(source)
    if str(inside) != ".":
        _link_into(source, target, str(inside))
    made = target / inside / found.name
    if stat.S_ISDIR(entry.st_mode):
        made.mkdir(exist_ok=True)
        os.chown(made, entry.st_uid, entry.st_gid)
        made.chmod(stat.S_IMODE(entry.st_mode))
    elif not os.path.lexists(made):
        os.link(found, made, follow_symlinks=False)


def _tiny_accounts(text: str) -> str:
    lines = [line for line in text.splitlines() if line.partition(":")[0] in _TINY_USERS]
    return "".join(line.replace("/bin/bash", "/usr/sbin/nologin") + "\n" for line in lines)


def _stanzas(status: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    for stanza in status.read_text().split("\n\n"):
        found = re.match(r"Package: (\S+)", stanza)
        if found and found[1] in names:
            yield found[1], stanza + "\n"
