"""Other people's tools run what is built here, and what they build is the same file system here as there."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, Installation

pytestmark = pytest.mark.needs_root

BASE = "docker.io/hako/base-run:13"
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # cap_net_bind_service, effective

# One line a file: kind and mode, owner, size, name, target, capabilities, and the first name of the same file.
LIST = r"""
use strict; use warnings;
my $root = $ARGV[0]; my (%first, @rows);
my %skip = map { $_ => 1 } qw(/proc /sys /dev /etc/hosts /etc/hostname /etc/resolv.conf);
sub look {
    my ($name) = @_;
    return if $skip{$name};
    my $path = $root . $name; my $shown = $name eq '' ? '/' : $name; $path = '/' if $path eq '';
    my @s = lstat $path or die "$path: $!";
    my $folder = -d _; my $link = -l _;
    my $target = $link ? readlink $path : '';
    my $size = $folder || $link ? '-' : $s[7];
    my $same = $folder ? $shown : "$s[0]:$s[1]";
    $first{$same} = $shown if !exists $first{$same} || $shown lt $first{$same};
    my $cap = '';
    if (!$folder && !$link) {
        my $data = "\0" x 64; my $key = 'security.capability'; my $file = "$path";
        my $count = syscall(GETXATTR, $file, $key, $data, 64);
        $cap = unpack('H*', substr($data, 0, $count)) if $count > 0;
    }
    push @rows, [$same, sprintf '%o %d:%d %s %s %s %s', $s[2], $s[4], $s[5], $size, $shown, $target, $cap];
    return unless $folder;
    opendir(my $entries, $path) or die "$path: $!";
    look("$name/$_") for grep { $_ ne '.' && $_ ne '..' } readdir $entries;
}
look('');
print "$_->[1] $first{$_->[0]}\n" for @rows;
""".replace("GETXATTR", "8" if os.uname().machine == "aarch64" else "191")


class Tool:
    """podman and buildah with a store of their own."""

    def __init__(self, folder: Path) -> None:
        self._places = [
            "--root", str(folder / "root"), "--runroot", str(folder / "run"),
            "--storage-driver", "vfs",
        ]  # fmt: skip

    def command(self, tool: str, *arguments: str) -> list[str]:
        return [tool, *self._places, *arguments]

    def run(self, tool: str, *arguments: str) -> str:
        done = subprocess.run(
            self.command(tool, *arguments), capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, f"{tool} {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()


@pytest.fixture
def folder() -> Iterator[Path]:
    """On a disk, and short."""
    made = Path(tempfile.mkdtemp(prefix="hk-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def peer(folder: Path) -> Iterator[Tool]:
    tool = Tool(folder / "store")
    yield tool
    tool.run("buildah", "rm", "--all")
    tool.run("buildah", "rmi", "--all", "--force")


def test_podman_runs_what_is_built_here(
    shared_installation: Installation, seed_home: Path, peer: Tool
) -> None:
    shared_installation.hako("build", "hako/apps/peer", "--path", str(ROOT / "examples/python-web"))
    layout = f"oci:{shared_installation.home}/images:docker.io/hako/apps/peer:latest"
    name = peer.run("podman", "pull", "--quiet", layout)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # crun refuses hosts with both cgroup versions, runc refuses to do without cgroups.
    runtime = ["runc"] if shutil.which("runc") else ["crun", "--cgroups", "disabled"]
    container = peer.run(
        "podman", "create", "--network", "host", "--runtime", *runtime, "--ulimit", "nofile=1024:1024",
        "--ulimit", "nproc=1000:1000", "--env", f"PORT={port}", name,
    )  # fmt: skip
    process = subprocess.Popen(
        peer.command("podman", "start", "--attach", container),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert answer(f"http://127.0.0.1:{port}", process) == b"Hello from no revision.\n"
    finally:
        peer.run("podman", "rm", "--force", "--time", "2", container)
        process.communicate(timeout=30)


def answer(url: str, process: subprocess.Popen[bytes]) -> bytes:
    """The page, as soon as there is one."""
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as page:
                return bytes(page.read())
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                raise AssertionError(process.communicate(timeout=10)[0]) from None
            time.sleep(0.1)


def change(root: Path) -> None:
    """What a second layer may do: take away, make opaque, replace kinds, capabilities, hard links, odd modes."""
    (root / "etc/debian_version").unlink()
    shutil.rmtree(root / "usr/share/base-files")
    (root / "usr/share/base-files").mkdir(mode=0o700)
    (root / "usr/share/base-files/new").write_text("in an opaque folder")
    (root / "etc/motd").unlink(missing_ok=True)
    (root / "etc/motd").mkdir()
    (root / "tmp/x").write_text("its parent keeps its mode")
    program = root / "usr/bin/bound"
    shutil.copy(root / "usr/bin/true", program)
    os.setxattr(program, "security.capability", CAPABILITY)
    os.link(program, root / "usr/bin/bound-too")
    os.link(program, root / "opt/bound-elsewhere")
    (root / "opt/suid").write_text("x")
    os.chown(root / "opt/suid", 1002, 1000)
    (root / "opt/suid").chmod(0o6755)
    os.symlink("/opt/suid", root / "opt/link")
    (root / "opt/ümläut 文").write_text("names are bytes")


def test_an_image_of_buildah_is_the_same_file_system_here(
    shared_installation: Installation, seed_home: Path, peer: Tool, folder: Path
) -> None:
    base = peer.run("buildah", "from", f"oci:{shared_installation.home}/images:{BASE}")
    change(Path(peer.run("buildah", "mount", base)))
    archive = folder / "made.tar"
    image = peer.run("buildah", "commit", "--quiet", base)
    again = peer.run("buildah", "from", image)
    mounted = Path(peer.run("buildah", "mount", again))
    (mounted / "usr/bin/bound-too").unlink()
    (mounted / "tmp/y").write_text("a third layer")
    final = peer.run("buildah", "commit", "--quiet", again)
    peer.run("buildah", "push", "--quiet", final, f"oci-archive:{archive}:peer/made:v1")
    there = Path(peer.run("buildah", "mount", peer.run("buildah", "from", final)))

    shared_installation.hako("image", "load", "-i", str(archive))
    here = shared_installation.hako(
        "container", "run", "--network", "none", "-u", "0", "--entrypoint", "/usr/bin/perl",
        "peer/made:v1", "-e", LIST, "",
    ).stdout  # fmt: skip
    peers = subprocess.run(
        ["perl", "-e", LIST, str(there)], capture_output=True, text=True, check=True
    ).stdout

    # No layer says what the root itself is: each tool makes its own.
    mine, theirs = (
        sorted(line for line in text.splitlines() if not line.endswith(" /   /"))
        for text in (here, peers)
    )
    assert [line for line in mine if line not in theirs] == []
    assert [line for line in theirs if line not in mine] == []
    assert any(" /usr/bin/bound " in line and CAPABILITY.hex() in line for line in mine)
    assert any(
        " /usr/bin/bound " in line and line.endswith(" /opt/bound-elsewhere") for line in mine
    )
    assert not any("/etc/debian_version" in line or "bound-too" in line for line in mine)
    assert any(line.startswith("41777 ") and " /tmp " in line for line in mine)
