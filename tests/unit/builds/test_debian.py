"""The lock of Debian packages, and the definition that it fulfils."""

from __future__ import annotations

import tomllib

import pytest

from hakobune.builds.base_definition import ARCHITECTURES, DEFINITION, Definition
from hakobune.builds.debian_archive import archive_sources
from hakobune.builds.package_lock import Package, PackageLock, parse_lock, render_lock
from hakobune.errors import HakoError

LOCK = """\
# a comment
epoch 1700000000
amd64 run libc6 2.41-12 100 aa debian/pool/main/g/glibc/libc6_2.41-12_amd64.deb
amd64 build git 1:2.47 200 bb debian/pool/main/g/git/git_2.47_amd64.deb
arm64 run libc6 2.41-12 90 cc debian/pool/main/g/glibc/libc6_2.41-12_arm64.deb
"""


def committed_lock(architecture: str) -> PackageLock:
    return parse_lock((DEFINITION / "packages.lock").read_text(), architecture)


def definition() -> Definition:
    return Definition.from_document(tomllib.loads((DEFINITION / "base.toml").read_text()))


def test_a_lock_gives_the_packages_of_one_architecture_and_image() -> None:
    lock = parse_lock(LOCK, "amd64")

    assert lock.epoch == 1700000000
    assert lock.size_bytes == 300
    assert lock.of("build") == (
        Package(
            image="build",
            name="git",
            version="1:2.47",
            size_bytes=200,
            sha256="bb",
            path="debian/pool/main/g/git/git_2.47_amd64.deb",
        ),
    )
    assert [package.file_name for package in lock.of("run")] == ["libc6_2.41-12_amd64.deb"]


def test_a_lock_is_written_as_it_is_read() -> None:
    locks = {architecture: parse_lock(LOCK, architecture) for architecture in ("amd64", "arm64")}

    text = render_lock(locks, 1700000000)

    assert {a: parse_lock(text, a) for a in locks} == locks


def test_an_architecture_without_packages_is_named() -> None:
    with pytest.raises(HakoError) as caught:
        parse_lock(LOCK, "riscv64")

    assert str(caught.value) == (
        "there are no base images for riscv64\n"
        "  why: the package lock of builders/debian has no packages of this architecture\n"
        "  fix: use an amd64 or arm64 machine, or another builder (--builder)"
    )


@pytest.mark.parametrize(
    "line", ["amd64 run libc6", "amd64 run libc6 1 many aa path", "epoch today", "x"]
)
def test_a_line_that_cannot_be_read_is_named_by_number(line: str) -> None:
    with pytest.raises(HakoError, match="line 6 of the package lock"):
        parse_lock(LOCK + line + "\n", "amd64")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_committed_lock_has_everything_that_the_definition_names(architecture: str) -> None:
    lock, wanted = committed_lock(architecture), definition()

    run = {package.name for package in lock.of("run")}
    build = {package.name for package in lock.of("build")}
    assert run >= set(wanted.archive.run)
    assert build >= set(wanted.archive.build)
    assert run >= set(wanted.tiny)
    assert not run & build


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_committed_lock_names_each_package_once_by_a_whole_digest(architecture: str) -> None:
    lock = committed_lock(architecture)

    names = [package.name for package in lock.packages]
    assert len(names) == len(set(names))
    assert all(len(package.sha256) == 64 for package in lock.packages)
    assert {p.path.partition("/")[0] for p in lock.packages} <= set(definition().archive.mirrors)


def test_apt_in_the_images_knows_security_updates() -> None:
    mirrors = {"debian": "http://mirror.test/debian", "debian-security": "http://mirror.test/sec"}

    assert archive_sources(mirrors, "trixie") == (
        "Types: deb\nURIs: http://mirror.test/debian\nSuites: trixie trixie-updates\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n"
        "Types: deb\nURIs: http://mirror.test/sec\nSuites: trixie-security\n"
        "Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
