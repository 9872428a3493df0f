"""Packages come through the machine's own apt: an archive in a folder stands in for Debian's."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hakobune.builds.package_download import APT_HELPER, PackageGoneError, fetch_packages
from hakobune.builds.package_lock import Package
from hakobune.builds.package_repository import write_repository
from hakobune.errors import HakoError
from hakobune.progress import RecordedProgress, SilentProgress

pytestmark = pytest.mark.skipif(
    not Path(APT_HELPER).exists(), reason="this machine has no apt; the base images need it"
)


class Archive:
    """A mirror in a folder, with packages made by dpkg-deb."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mirrors = {"debian": f"file://{folder}/debian"}

    def add(self, name: str) -> Package:
        tree = self.folder / "trees" / name
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: 1.0\nArchitecture: all\n"
            f"Maintainer: nobody <nobody@example.test>\nDescription: {name}\n more about it\n"
        )
        file = self.folder / f"debian/pool/{name}_1.0_all.deb"
        file.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "--build", tree, file], check=True, capture_output=True)
        data = file.read_bytes()
        return Package(
            image="run",
            name=name,
            version="1.0",
            size_bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            path=f"debian/pool/{file.name}",
        )


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The folder's files over HTTP; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")


def fetch(archive: Archive, packages: Sequence[Package], cache: Path) -> tuple[Path, ...]:
    return fetch_packages(packages, cache, archive.mirrors, SilentProgress())


def test_packages_are_fetched_in_order_with_progress(archive: Archive, tmp_path: Path) -> None:
    packages = [archive.add("second"), archive.add("first")]
    progress = RecordedProgress()

    files = fetch_packages(packages, tmp_path / "cache", archive.mirrors, progress)

    assert [file.name for file in files] == ["second_1.0_all.deb", "first_1.0_all.deb"]
    total = sum(package.size_bytes for package in packages)
    assert progress.texts("bytes") == (f"Debian packages {total}/{total}",)


def test_what_is_in_the_cache_needs_no_archive(archive: Archive, tmp_path: Path) -> None:
    package = archive.add("kept")
    fetch(archive, [package], tmp_path / "cache")
    archive.mirrors = {"debian": "http://127.0.0.1:9/debian"}

    files = fetch(archive, [package], tmp_path / "cache")

    assert files[0].read_bytes()


def test_a_damaged_file_in_the_cache_is_fetched_again(archive: Archive, tmp_path: Path) -> None:
    package = archive.add("damaged")
    file = fetch(archive, [package], tmp_path / "cache")[0]
    file.write_bytes(b"half")

    fetch(archive, [package], tmp_path / "cache")

    assert hashlib.sha256(file.read_bytes()).hexdigest() == package.sha256


def test_other_bytes_than_the_lock_names_are_refused(archive: Archive, tmp_path: Path) -> None:
    package = archive.add("swapped")
    (archive.folder / "debian/pool/swapped_1.0_all.deb").write_bytes(b"x" * package.size_bytes)

    with pytest.raises(HakoError, match="cannot download the Debian packages"):
        fetch(archive, [package], tmp_path / "cache")

    assert list((tmp_path / "cache").iterdir()) == []


def test_an_archive_that_does_not_answer_is_named_with_what_to_do(
    archive: Archive, tmp_path: Path
) -> None:
    package = archive.add("far")
    archive.mirrors = {"debian": "http://127.0.0.1:9/debian"}

    with pytest.raises(HakoError) as caught:
        fetch(archive, [package], tmp_path / "cache")

    assert caught.value.what == "cannot download the Debian packages of the base images"
    assert "127.0.0.1:9" in caught.value.why
    assert "apt-get update" in caught.value.fix
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_version_that_was_replaced_is_told_apart(archive: Archive, tmp_path: Path) -> None:
    package = archive.add("old")
    (archive.folder / "debian/pool/old_1.0_all.deb").unlink()

    with serve(archive.folder) as address:
        archive.mirrors = {"debian": f"{address}/debian"}
        with pytest.raises(PackageGoneError) as caught:
            fetch(archive, [package], tmp_path / "cache")

    assert "404" in caught.value.why


def test_a_repository_of_packages_is_one_for_apt(archive: Archive, tmp_path: Path) -> None:
    files = fetch(archive, [archive.add("b"), archive.add("a")], tmp_path / "cache")

    write_repository(files, tmp_path / "repository")

    index = (tmp_path / "repository/Packages").read_text()
    stanzas = index.strip().split("\n\n")
    assert [stanza.splitlines()[0] for stanza in stanzas] == ["Package: a", "Package: b"]
    assert "Filename: ./a_1.0_all.deb\nSize: " in stanzas[0]
    assert (tmp_path / "repository/a_1.0_all.deb").samefile(files[1])
