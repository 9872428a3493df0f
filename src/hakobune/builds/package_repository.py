"""A folder of Debian packages as an apt repository."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hakobune.builds.machine_tool import ask_tool
from hakobune.errors import HakoError
from hakobune.support.files import write_atomically


def write_repository(files: Iterable[Path], folder: Path) -> None:
    """Make *folder* an apt repository of these packages (`deb [trusted=yes] copy:FOLDER ./`)."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(files)
    with ThreadPoolExecutor(max_workers=2) as pool:
        stanzas = list(pool.map(_index_stanza, files))
    for file in files:
        link = folder / file.name
        link.unlink(missing_ok=True)
        os.link(file, link)
    write_atomically(folder / "Packages", "\n".join(stanzas).encode())


def _index_stanza(file: Path) -> str:
    result = ask_tool(["dpkg-deb", "--field", str(file)])
    if result.returncode:
        raise HakoError(f"cannot read the Debian package {file.name}", why=result.stderr.strip())
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    size = file.stat().st_size
    return f"{result.stdout.strip()}\nFilename: ./{file.name}\nSize: {size}\nSHA256: {digest}\n"


def package_names(repository: Path) -> tuple[str, ...]:
    """What is in it, in the order of its files."""
    lines = (repository / "Packages").read_text().splitlines()
    return tuple(line[9:] for line in lines if line.startswith("Package: "))
