"""Debian packages to root file systems: one bootstrap gives the run, build and tiny trees.

mmdebstrap makes the run tree. The build tree is what more packages change on top of it (an overlay's upper
directory, so both images share the layer below). The tiny tree is the files of a few packages, linked from
the run tree. All three are the same for the same packages: no date is younger than the lock's epoch, and what
differs between machines or runs is taken out.
"""

from __future__ import annotations

import contextlib
import filecmp
import fnmatch
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hakobune.builds.debian import archive_sources, write_repository
from hakobune.errors import HakoError

BUILD_UID = 1001
RUN_UID = 1002
GROUP_ID = 1000
USER = "cnb"
USER_HOME = "/home/cnb"
CA_BUNDLE = "etc/ssl/certs/ca-certificates.crt"

# What differs from run to run, or belongs to the machine; globs below the root.
_LEFT_BEHIND = (
    "dev/*",
    "etc/*-",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/apt/sources.list",
    "etc/dpkg/dpkg.cfg.d/99mmdebstrap",
    "etc/hostname",
    "etc/machine-id",
    "etc/resolv.conf",
    "run/*",
    "tmp/*",
    "usr/sbin/policy-rc.d",
    "var/cache/apt/*.bin",
    "var/cache/debconf/*-old",
    "var/cache/debconf/tmp.ci",
    "var/cache/ldconfig/*",
    "var/lib/apt/lists/*_*",
    "var/lib/apt/lists/lock",
    "var/cache/apt/archives/*.deb",
    "var/cache/apt/archives/lock",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/dpkg/updates/*",
    "var/lib/systemd/*",
    "var/tmp/*",
)
_LOGS = ("var/log/*", "var/log/*/*")
_TINY_CONFIGURATION = ("etc/nsswitch.conf", CA_BUNDLE)
# A shell script for people who log in.
_NOT_IN_TINY = "etc/update-motd.d"
_TINY_USERS = ("root", "nobody", USER, "nogroup")
# Namespaces of its own, ending with this process: whatever happens, no mount, process or connection is left.
_ALONE = (
    *("setpriv", "--pdeathsig", "KILL"),
    *(
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--uts",
        "--ipc",
        "--net",
    ),
)
_COMPILE = """
mount --make-rprivate /
mount -t tmpfs tmpfs "$MERGED"
mkdir "$MERGED/upper" "$MERGED/work" "$MERGED/root"
mount -t overlay overlay -o "lowerdir=$LOWERS,upperdir=$MERGED/upper,workdir=$MERGED/work" "$MERGED/root"
mkdir -p "$MERGED/root$PLACE"
mount --bind "$FILES" "$MERGED/root$PLACE"
exec chroot "$MERGED/root" /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash "$PLACE"
"""
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


# What apt keeps for later would stay in a layer for good.
_APT_CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePlan:
    """What the trees are made of, beside the packages.

    Attributes:
        architecture: Debian's name of the CPU. Maintainer scripts run on it: emulated, if it is another than this machine's.
    """

    architecture: str
    suite: str
    mirrors: Mapping[str, str]
    left_out: tuple[str, ...]
    kept: tuple[str, ...]
    left_out_of_build: tuple[str, ...]
    tiny: tuple[str, ...]
    epoch: int


def make_run_tree(packages: Sequence[Path], plan: TreePlan, folder: Path) -> Path:
    """Bootstrap *packages* (the whole closure) with mmdebstrap; gives the finished tree below *folder*.

    Raises:
        HakoError: mmdebstrap is missing or failed; *why* is its last words.
    """
    tree, repository = folder / "run", folder / "repository"
    write_repository(packages, repository)
    _mmdebstrap(tree, repository, plan)
    _write(tree, "etc/apt/sources.list.d/debian.sources", archive_sources(plan.mirrors, plan.suite))
    # By the name that Debian's container images use: a Dockerfile with a cache mount for apt removes it.
    _write(tree, "etc/apt/apt.conf.d/docker-clean", _APT_CLEAN)
    _write(tree, "etc/apt/apt.conf.d/hakobune", 'Acquire::Languages "none";\n')
    excluded = [f"path-exclude={glob}" for glob in plan.left_out]
    included = [f"path-include={glob}" for glob in plan.kept]
    # dpkg reads both in order: what is included later comes back.
    _write(tree, "etc/dpkg/dpkg.cfg.d/hakobune", "\n".join([*excluded, *included, ""]))
    _add_user(tree)
    _leave_out(tree, plan.left_out, plan.kept)
    _finish(tree, plan.epoch)
    return tree


def make_build_tree(run: Path, packages: Sequence[Path], plan: TreePlan, folder: Path) -> Path:
    """Install *packages* on top of the tree *run*; gives what that changes, as an overlay's upper directory.

    Raises:
        HakoError: dpkg failed; *why* is its last words.
    """
    places = {name: folder / name for name in ("upper", "work", "merged", "packages")}
    for place in places.values():
        _make_folder(place)
    write_repository(packages, places["packages"])
    inside = _INSTALL_INSIDE.format(
        left_out=" ".join(
            f"-o 'DPkg::Options::=--path-exclude={glob}'" for glob in plan.left_out_of_build
        ),
        names=" ".join(_package_names(places["packages"])),
        run_uid=RUN_UID,
        build_uid=BUILD_UID,
        group_id=GROUP_ID,
    )
    environment = {name.upper(): str(place) for name, place in places.items()}
    _run_tool(
        [*_ALONE, "/bin/sh", "-eu", "-c", _INSTALL_BUILD],
        {**environment, "LOWER": str(run), "INSIDE": inside},
        plan.epoch,
        "cannot install the build image's packages",
    )
    upper = places["upper"]
    shutil.copystat(run, upper)
    _finish(upper, plan.epoch)
    _drop_unchanged(upper, run, plan.epoch)
    return upper


def make_tiny_tree(run: Path, plan: TreePlan, folder: Path) -> Path:
    """The files of the tiny image's packages, as hard links into *run*, which must not change any more."""
    tree = folder / "tiny"
    _make_folder(tree)
    database = run / "var/lib/dpkg"
    listed = (path for name in plan.tiny for path in _package_files(database, name))
    for path in sorted({*listed, *_TINY_CONFIGURATION, USER_HOME[1:]}):
        if path.startswith(_NOT_IN_TINY):
            continue
        _link_into(run, tree, path)
    for name in ("passwd", "group"):
        _write(tree, f"etc/{name}", _tiny_accounts((run / "etc" / name).read_text()))
    # OpenSSL looks for this name; there is no `openssl rehash` and none of its links here.
    _make_folder(tree / "usr/lib/ssl")
    os.symlink(f"/{CA_BUNDLE}", tree / "usr/lib/ssl/cert.pem")
    # Scanners of images without a package manager read this.
    for name, stanza in _stanzas(database / "status", plan.tiny):
        _write(tree, f"var/lib/dpkg/status.d/{name}", stanza)
    for name in ("tmp", "var/tmp"):
        _make_folder(tree / name)
        (tree / name).chmod(0o1777)
    _finish(tree, plan.epoch)
    return tree


def compile_python(lowers: Sequence[Path], files: Path, place: Path, folder: Path) -> None:
    """Compile the Python files below *files* with the interpreter of an image, as if they lay at *place* in it.

    The bytecode carries the source's hash, not its time: it stays valid in a layer, where every file is of 1980.

    Args:
        lowers: the image's directories, uppermost first.
        folder: a scratch folder.
    """
    merged = folder / "merged"
    merged.mkdir()
    _run_tool(
        [*_ALONE, "/bin/sh", "-eu", "-c", _COMPILE],
        {
            "LOWERS": ":".join(map(str, lowers)),
            "FILES": str(files),
            "PLACE": str(place),
            "MERGED": str(merged),
            "PYTHONHASHSEED": "0",
        },
        0,
        "cannot compile the buildpacks' Python files",
    )


def _mmdebstrap(tree: Path, repository: Path, plan: TreePlan) -> None:
    names = _package_names(repository)
    _run_tool(
        [
            *(
                *_ALONE,
                "mmdebstrap",
                "--mode=root",
                "--variant=custom",
                "--format=directory",
                "--quiet",
            ),
            # That the kernel runs the CPU's programs has been asked of the kernel.
            *("--skip=check/signed-by,check/qemu", "--dpkgopt=force-unsafe-io"),
            f"--architectures={plan.architecture}",
            *('--aptopt=APT::Sandbox::User "root"', f"--include={','.join(names)}"),
            *(plan.suite, str(tree), f"deb [trusted=yes] copy:{repository} ./"),
        ],
        {},
        plan.epoch,
        "cannot make the base image with mmdebstrap",
    )


def _package_names(repository: Path) -> tuple[str, ...]:
    lines = (repository / "Packages").read_text().splitlines()
    return tuple(line[9:] for line in lines if line.startswith("Package: "))


def _run_tool(
    command: Sequence[str], environment: Mapping[str, str], epoch: int, failure: str
) -> None:
    """Run a tool of the machine, as reproducibly as it can, and turn its failure into an error."""
    fixed = {
        "DEBIAN_FRONTEND": "noninteractive",
        "DEBCONF_NONINTERACTIVE_SEEN": "true",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PERL_HASH_SEED": "0",
        # Bytecode is what packages compile, never what their scripts happen to import: that carries a time.
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TZ": "UTC",
    }
    try:
        result = subprocess.run(
            command,
            env={**fixed, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            umask=0o022,
            check=False,
        )
    except FileNotFoundError as error:
        raise HakoError(
            failure, why=f"{command[0]} is not installed", fix="apt-get install -y util-linux"
        ) from error
    if result.returncode:
        last = "\n       ".join(result.stdout.strip().splitlines()[-6:])
        raise HakoError(failure, why=last, fix="`hako doctor` shows what this machine lacks")


def _add_user(tree: Path) -> None:
    """The CNB user of the run image; the build image gives the same name another id."""
    for name, line in (
        ("passwd", f"{USER}:*:{RUN_UID}:{GROUP_ID}::{USER_HOME}:/bin/bash"),
        ("group", f"{USER}:*:{GROUP_ID}:"),
    ):
        with (tree / "etc" / name).open("a") as file:
            file.write(line + "\n")
    home = tree / USER_HOME[1:]
    _make_folder(home)
    os.chown(home, RUN_UID, GROUP_ID)


def _leave_out(tree: Path, globs: Iterable[str], kept: Iterable[str]) -> None:
    """Remove what dpkg would have left out, and the folders that are empty then."""
    unwanted, wanted = _any_of(globs), _any_of(kept)
    for folder, names, files in os.walk(tree, topdown=False):
        inside = folder[len(str(tree)) :]
        removed = [
            name
            for name in (*files, *names)
            if unwanted(f"{inside}/{name}") and not wanted(f"{inside}/{name}")
        ]
        for name in removed:
            path = Path(folder, name)
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()


def _any_of(globs: Iterable[str]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(fnmatch.translate(glob) for glob in globs)).fullmatch


def _finish(tree: Path, epoch: int) -> None:
    """Take out what is not the packages', and date nothing after *epoch*."""
    for glob in _LEFT_BEHIND:
        for left in tree.glob(glob):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()
    for glob in _LOGS:
        for log in filter(Path.is_file, tree.glob(glob)):  # apt wants its folders back
            log.unlink()
    for path, entry in _walk(tree):
        if stat.S_ISDIR(entry.st_mode) or stat.S_ISREG(entry.st_mode):
            _drop_overlay_marks(path)
        if entry.st_mtime > epoch or stat.S_ISDIR(entry.st_mode):
            os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(tree, (epoch, epoch))


def _drop_unchanged(upper: Path, lower: Path, epoch: int) -> None:
    """Remove from *upper* what is the same in *lower*: files written anew as they were, folders touched in passing.

    So the layer does not depend on what some tool looked at, or tried, on the way.
    """
    for path, entry in _walk(upper):
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


def _drop_overlay_marks(path: str) -> None:
    """What the kernel noted about the mount that made this; "opaque" says something about the tree and stays."""
    for name in os.listxattr(path):
        if name.startswith("trusted.overlay.") and name != "trusted.overlay.opaque":
            os.removexattr(path, name)


def _walk(tree: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every entry below *tree*; a directory after what is in it, so that its own date can be set."""
    for folder, names, files in os.walk(tree, topdown=False):
        for name in (*files, *names):
            path = f"{folder}/{name}"
            yield path, os.lstat(path)


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


def _write(tree: Path, path: str, text: str) -> None:
    file = tree / path
    _make_folder(file.parent)
    file.unlink(missing_ok=True)  # it may be a link into another tree
    file.write_text(text)
    file.chmod(0o644)


def _make_folder(path: Path) -> None:
    """Make it and its parents if they are missing, open to all whatever this process's umask is."""
    if not path.exists():
        _make_folder(path.parent)
        path.mkdir()
        path.chmod(0o755)


@contextmanager
def scratch(parent: Path, name: str) -> Iterator[Path]:
    """A fresh folder below *parent*, gone afterwards.

    Folders of that name that killed processes left are removed: the caller holds the lock for *name*.
    """
    for left in parent.glob(f".{name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = parent / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
    folder.mkdir(parents=True, mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
