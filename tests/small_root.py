"""A root file system of a few host programs and the libraries they need, for tests of containers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = ("sh", "cat", "sleep", "id", "ls", "env", "stat", "touch", "mkdir", "chmod", "ln", "dd")

SERVER = Path(__file__).resolve().parent.parent / "bench" / "server.c"


def make_small_root(
    root: Path, *, programs: Iterable[str] = PROGRAMS, server: bool = False
) -> Path:
    """Fill *root* (made, world-readable) with *programs*, `/etc/passwd`, and `/srv` if *server*."""
    for folder in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    root.chmod(0o755)
    (root / "tmp").chmod(0o1777)
    for name in programs:
        _copy_program(Path(shutil.which(name) or f"/bin/{name}"), root)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1002:1000:app:/home/app:/bin/sh\n"
    )
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
    if server:
        compile_server(root / "srv")
    return root


def compile_server(target: Path) -> None:
    """A static HTTP server that answers every request with 200 `ok`."""
    subprocess.run(
        ["gcc", "-Os", "-static", "-s", str(SERVER), "-o", str(target)],
        check=True,
        timeout=60,
    )


def _copy_program(program: Path, root: Path) -> None:
    shutil.copy(program.resolve(), root / "bin" / program.name)
    listing = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=10)
    for library in re.findall(r"(/\S+)", listing.stdout):
        target = root / library[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(Path(library).resolve(), target)
