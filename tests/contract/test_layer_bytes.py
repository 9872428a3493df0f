"""Our tar against Go's archive/tar, which the CNB lifecycle writes layers with: the same bytes, so the same diff_ids."""

import json
import os
import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from hakobune.oci.layer import Directory, Owner, Part, Slice, Symlink, Tree, write_layer
from tests.memory_blob import MemoryBlob

GO_PROGRAM = Path(__file__).parent / "gotar" / "main.go"
# What the Go program printed (go 1.26) for `parts_of(a_tree())` with the owner 1001:1000, then 3000000:1000.
RECORDED = (
    "sha256:616084a91167adc514de8d3814dcddeb0adaa1c1a2518adb9616cb842b5eb3e3",
    "sha256:5ac1a042f56d2509abce0617272a0b09a63a1e4691a2c5840b089bf179a7ff05",
)
OWNERS = (Owner(1001, 1000), Owner(3_000_000, 1000))


def a_tree(root: Path) -> Path:
    """One of everything whose header is written in a way of its own."""
    noise = random.Random(7)
    files = {
        "a/x": b"1",
        "a-b": b"22",
        "a.b/y": b"",
        "A": b"upper case sorts first",
        "a0": b"digits after the slash",
        "exact/block": bytes(512),
        "big.bin": noise.randbytes((3 << 20) + 17),
        "text.txt": b"compresses well\n" * 200_000,
        "name with space": b"s",
        "é/ü": b"not ASCII",
        "中/文件": b"not ASCII",
        "n" * 100: b"goes deep below",
        "m" * 200: b"one long component",
        "é" * 120: b"long and not ASCII",
        "deep/" + "/".join(["d" * 30] * 4) + "/f": b"splits into prefix and name",
        "deep/" + "/".join(["e" * 30] * 9) + "/f": b"does not",
        "deep/" + "p" * 100 + "/" + "q" * 100: b"fits exactly",
        "setuid": b"#!",
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
    (root / "empty").mkdir()
    (root / "setuid").chmod(0o6755)
    (root / "sticky").mkdir()
    os.link(root / "a/x", root / "hard-link")
    os.symlink("a/x", root / "link")
    os.symlink("/" + "t" * 120, root / "long-link")
    os.symlink("zürich", root / "link-not-ASCII")
    os.mkfifo(root / "pipe")
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o755)
    (root / "sticky").chmod(0o1777)
    (root / "pipe").chmod(0o600)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket"))
    return root


def parts_of(tree: Path) -> list[Part]:
    return [
        Directory(name="/layers"),
        Directory(name="/layers/samples_hello", mode=0o775, owner=Owner(5, 6)),
        Tree(name="/layers/samples_hello/world", directory=tree),
        Symlink(name="/cnb/process/web", target="/cnb/lifecycle/launcher"),
        Slice(name="/workspace", directory=tree),
        Tree(name="/" + "long/" * 30 + "name", directory=tree),
    ]


def for_go(part: Part, owner: Owner) -> dict[str, object]:
    match part:
        case Directory():
            own, rest = part.owner, {"Kind": "directory", "Mode": part.mode}
        case Symlink():
            own, rest = part.owner, {"Kind": "symlink", "Mode": part.mode, "Target": part.target}
        case _:
            own, rest = owner, {"Kind": type(part).__name__.lower(), "From": str(part.directory)}
    return {"Name": part.name, "UID": own.uid, "GID": own.gid, **rest}


def by_go(layers: list[list[dict[str, object]]], scratch: Path) -> tuple[str, ...]:
    binary = scratch / "gotar-bin"
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    subprocess.run(["go", "build", "-o", binary, GO_PROGRAM], check=True, env=environment)
    done = subprocess.run(
        [binary], input=json.dumps(layers).encode(), check=True, capture_output=True
    )
    return tuple(done.stdout.decode().split())


def by_us(tree: Path) -> tuple[str, ...]:
    return tuple(
        str(write_layer(MemoryBlob(), parts_of(tree), owner=owner).diff_id) for owner in OWNERS
    )


@pytest.mark.skipif(shutil.which("go") is None, reason="no go here; the recorded digests remain")
def test_diff_ids_equal_those_of_gos_archive_tar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()
    tree = a_tree(tmp_path / "tree")

    upstream = by_go([[for_go(p, owner) for p in parts_of(tree)] for owner in OWNERS], tmp_path)

    assert by_us(tree) == upstream


def test_diff_ids_equal_those_that_go_gave_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").mkdir()

    assert by_us(a_tree(tmp_path / "tree")) == RECORDED


@pytest.mark.needs_root
@pytest.mark.skipif(shutil.which("go") is None, reason="no go here")
def test_devices_and_names_that_are_no_text_are_written_as_go_writes_them(tmp_path: Path):
    tree = tmp_path / "tree"
    tree.mkdir(mode=0o755)
    (tree / os.fsdecode(b"latin-\xe9")).write_bytes(b"x")
    (tree / "\U0001f600").write_bytes(
        b"sorts after latin-1's byte by code point, before it by bytes"
    )
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    os.mknod(tree / "disk", 0o60660, os.makedev(259, 70000))

    ours = write_layer(MemoryBlob(), [Tree(name="/x", directory=tree)], owner=OWNERS[0])

    part = {"Kind": "tree", "Name": "/x", "From": str(tree), "UID": 1001, "GID": 1000}
    assert (str(ours.diff_id),) == by_go([[part]], tmp_path)
