"""The root file system of the run image: a bootstrap of Debian's packages by mmdebstrap."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hakobune.builds.base_tree import (
    GROUP_ID,
    RUN_UID,
    USER,
    USER_HOME,
    TreePlan,
    finish,
    make_folder,
    write_text,
)
from hakobune.builds.debian_archive import archive_sources
from hakobune.builds.machine_tool import ALONE, run_tool
from hakobune.builds.package_repository import package_names, write_repository

# What apt keeps for later would stay in a layer for good.
_APT_CLEAN = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""


def make_run_tree(packages: Sequence[Path], plan: TreePlan, folder: Path) -> Path:
    """Bootstrap *packages* (the whole closure) with mmdebstrap; gives the finished tree below *folder*.

    Raises:
        HakoError: mmdebstrap is missing or failed; *why* is its last words.
    """
    tree, repository = folder / "run", folder / "repository"
    write_repository(packages, repository)
    _mmdebstrap(tree, repository, plan)
    write_text(
        tree, "etc/apt/sources.list.d/debian.sources", archive_sources(plan.mirrors, plan.suite)
    )
    # By the name that Debian's container images use: a Dockerfile with a cache mount for apt removes it.
    write_text(tree, "etc/apt/apt.conf.d/docker-clean", _APT_CLEAN)
    write_text(tree, "etc/apt/apt.conf.d/hakobune", 'Acquire::Languages "none";\n')
    excluded = [f"path-exclude={glob}" for glob in plan.left_out]
    included = [f"path-include={glob}" for glob in plan.kept]
    # dpkg reads both in order: what is included later comes back.
    write_text(tree, "etc/dpkg/dpkg.cfg.d/hakobune", "\n".join([*excluded, *included, ""]))
    _add_user(tree)
    _leave_out(tree, plan.left_out, plan.kept)
    finish(tree, plan.epoch)
    return tree


def _mmdebstrap(tree: Path, repository: Path, plan: TreePlan) -> None:
    names = package_names(repository)
    run_tool(
        [
            *(
                *ALONE,
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


def _add_user(tree: Path) -> None:
    """The CNB user of the run image; the build image gives the same name another id."""
    for name, line in (
        ("passwd", f"{USER}:*:{RUN_UID}:{GROUP_ID}::{USER_HOME}:/bin/bash"),
        ("group", f"{USER}:*:{GROUP_ID}:"),
    ):
        with (tree / "etc" / name).open("a") as file:
            file.write(line + "\n")
    home = tree / USER_HOME[1:]
    make_folder(home)
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
