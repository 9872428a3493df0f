"""Where the uploads of this machine's pushes are, so that the push after one that was killed goes on there.

One file an upload below `HAKO_HOME/cache/uploads`, for its owner alone: such a URL may be signed.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hakobune.oci.digest import Digest
from hakobune.support.files import write_atomically


class UploadNotes:
    """The notes below one folder. They are hints: one that is wrong or missing costs an upload from the beginning."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, repository: str, digest: Digest) -> str:
        """The URL of an upload whose process has ended; empty if there is none.

        Args:
            repository: with its host.
        """
        try:
            owner, _, url = self._path(repository, digest).read_text().partition(" ")
            return "" if _is_alive(int(owner)) else url
        except (OSError, ValueError):
            return ""

    def note(self, repository: str, digest: Digest, url: str) -> None:
        """This process uploads the blob at *url*."""
        text = f"{os.getpid()} {url}"
        write_atomically(self._path(repository, digest), text.encode(), mode=0o600)

    def forget(self, repository: str, digest: Digest) -> None:
        """The upload is closed, or was given up."""
        self._path(repository, digest).unlink(missing_ok=True)

    def _path(self, repository: str, digest: Digest) -> Path:
        return self._folder / hashlib.sha256(f"{repository}@{digest}".encode()).hexdigest()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process != os.getpid()
