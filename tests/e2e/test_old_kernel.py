"""Debian 12's own kernel, 6.1 with cgroup v2, in a virtual machine: mounts, sandboxes, containers and a build by their fall-backs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.guest import Kernel, run_in_guest
from tests.e2e.installation import ROOT, Installation

pytestmark = [pytest.mark.needs_root, pytest.mark.slow]

PYTEST = f"{ROOT}/.venv/bin/python -m pytest -p no:cacheprovider -q --color=no"
# What differs between kernels: how layers and tops are handed over, memory and process limits, signals, ids.
SANDBOX = """attached or memory_hog or fork_storm or masked or devices_are_there or real_ids
    or given_back or kill_9_of_the_owner"""
CONTAINERS = """crun and (output_and_exit or needs_no_supervisor or memory_is_said or users_are_found
    or volume or killing_the_command or signal_reaches)"""
BUILT = """\
export HAKO_HOME=/mnt/home NO_COLOR=1
rm -rf "$HAKO_HOME/run" "$HAKO_HOME/serving" "$HAKO_HOME/containers" "$HAKO_HOME/builds"
./hako build --path examples/python-script --network none hako/apps/same
"""


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with tempfile.TemporaryDirectory(prefix="hk-kernel-", dir="/var/tmp") as folder:
        kernel = Kernel.download(Path(folder))
        assert kernel.version.startswith("6.1."), "this distribution's kernel is another one"
        yield kernel


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hk-guest-", dir="/var/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(
    ("file", "chosen"),
    [
        ("test_mounts.py", "attached and not mapped and not nothing_is_attached"),
        ("test_sandbox.py", SANDBOX),
        ("test_containers.py", CONTAINERS),
    ],
    ids=["mounts", "sandbox", "containers"],
)
def test_what_holds_on_new_kernels_holds_here(
    kernel: Kernel, scratch: Path, file: str, chosen: str
) -> None:
    words = " ".join(chosen.split())

    code, printed = run_in_guest(kernel, f"exec {PYTEST} tests/e2e/{file} -k '{words}'", scratch)

    assert code == 0, printed
    assert " passed" in printed.strip().splitlines()[-1]


def test_a_build_gives_the_image_that_it_gives_here(
    kernel: Kernel, scratch: Path, seed_home: Path, shared_installation: Installation
) -> None:
    source = str(ROOT / "examples/python-script")
    here = shared_installation.hako("build", "hako/apps/same", "--path", source).stdout

    code, printed = run_in_guest(kernel, BUILT, scratch, home=seed_home)

    assert code == 0, printed
    assert printed.strip().splitlines()[-1] == here.strip()
