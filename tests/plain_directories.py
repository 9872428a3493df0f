"""A build environment of plain directories: the container's root is a folder, executables run as they are.

Implements `lifecycle.environment.BuildEnvironment` without privileges. Container paths in arguments and
variables become paths below the root; what programs print has the container's paths again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PlainEntry:
    name: str
    is_directory: bool


class PlainDirectories:
    """A container that is the folder *root*; system programs come from the machine."""

    _OURS = re.compile(r"(?<![\w.])/(?=(?:layers|workspace|platform|cnb|tmp/hako-\w+)(?:/|$|:))")

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ended = False
        self.commands: list[tuple[str, ...]] = []
        root.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str,
        uid: int,
        gid: int,
        output: Callable[[bytes], None],
        timeout_s: float | None = None,
    ) -> int:
        self.commands.append(tuple(argv))
        try:
            done = subprocess.run(
                [self._host(a) for a in argv],
                env={k: self._host(v) for k, v in env.items()},
                cwd=self._path(cwd),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=timeout_s or 60,
                check=False,
            )
        except FileNotFoundError:
            return 127
        output(done.stdout.replace(os.fsencode(self.root), b""))
        return done.returncode if done.returncode >= 0 else 128 - done.returncode

    def read_file(self, path: str) -> bytes | None:
        file = self._path(path)
        return file.read_bytes() if file.is_file() else None

    def write_file(self, path: str, data: bytes, *, mode: int, uid: int, gid: int) -> None:
        file = self._path(path)
        file.write_bytes(data)
        file.chmod(mode)

    def make_directory(self, path: str, *, mode: int, uid: int, gid: int) -> None:
        self._path(path).mkdir(mode=mode, parents=True, exist_ok=True)

    def list_directory(self, path: str) -> tuple[PlainEntry, ...] | None:
        folder = self._path(path)
        if not folder.is_dir():
            return None
        return tuple(
            PlainEntry(entry.name, entry.is_dir(follow_symlinks=False))
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        )

    def remove(self, path: str) -> None:
        target = self._path(path)
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._path(old), self._path(new))

    def open_directory(self, path: str) -> int:
        assert self.ended, "directories are read when nothing runs any more"
        return os.open(self._path(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def kill_processes(self) -> None:
        self.ended = True

    def write_script(self, path: str, body: str) -> None:
        """Put an executable bash script at *path*."""
        file = self._path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\nset -eu\n{body}\n")
        file.chmod(0o755)

    def write_text(self, path: str, text: str) -> None:
        file = self._path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def read_text(self, path: str) -> str | None:
        data = self.read_file(path)
        return None if data is None else data.decode()

    def exists(self, path: str) -> bool:
        return self._path(path).exists()

    def _path(self, path: str) -> Path:
        assert path.startswith("/"), path
        return self.root / path.lstrip("/")

    def _host(self, value: str) -> str:
        return self._OURS.sub(f"{self.root}/", value)
