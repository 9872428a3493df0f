"""Where ADD and COPY take files from, with everything real: repositories, and words for what is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.dockerfile_world import BASE, fill
from tests.e2e.installation import Installation
from tests.git_server import git, git_server, make_repository

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.needs_root,
]


def build(world: Installation, folder: Path, *arguments: str, check: bool = True) -> str:
    """Build *folder*; gives what was printed on stderr."""
    done = world.hako("dockerfile", "build", *arguments, str(folder), check=check, timeout_s=120)
    assert check or done.returncode == 1
    return done.stderr


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_add_clones_a_repository_or_a_folder_of_it(world: Installation, tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "served")
    first = git(repository, "rev-parse", "v1^{commit}")
    with git_server(repository.parent) as url:
        context = fill(
            tmp_path / "context",
            {
                "Dockerfile": f"FROM {BASE}\nADD --chown=7:8 {url}/r.git /all\n"
                f"ADD --checksum={first} {url}/r.git#v1:docs /docs/\n"
                'CMD ["/bin/sh", "-c", "cat /all/docs/a /docs/a /all/link; find /all -uid 7 | sort"]\n'
            },
        )

        build(world, context, "-t", "cloned")
        again = build(world, context, "-t", "cloned")

    said = world.hako("container", "run", "--rm", "cloned").stdout
    assert said == "two\none\ntwo\n/all\n/all/docs\n/all/docs/a\n/all/link\n/all/run\n"
    assert again.count("CACHED") == 2


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_a_repository_that_moved_on_is_refused_by_its_checksum(
    world: Installation, tmp_path: Path
) -> None:
    repository = make_repository(tmp_path / "served")
    first = git(repository, "rev-parse", "v1^{commit}")
    with git_server(repository.parent) as url:
        text = f"FROM {BASE}\n\nADD --checksum={first} {url}/r.git#main /x\n"
        context = fill(tmp_path / "context", {"Dockerfile": text})

        said = build(world, context, check=False)

    assert f"Dockerfile:3: {url}/r.git#main is not the expected commit" in said


@pytest.mark.parametrize(
    ("line", "what", "why", "fix"),
    [
        ("COPY secret.log /x", "COPY secret.log: secret.log is not there", ".dockerignore:1 (*.log) leaves it out", "write !secret.log below that line"),
        ("COPY sub/fiel /x", "COPY sub/fiel: sub/fiel is not there", "the build context has no such file", "did you mean sub/file?"),
        ("COPY --from=0 /etc/pasdw /x", "COPY /etc/pasdw: /etc/pasdw is not there", "the stage or image '0' has no such file", "did you mean /etc/passwd?"),
        ("RUN --mount=type=cache,target=/ true", "a cache mount cannot cover the root", "", "add target=/PATH"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_with_its_line(
    world: Installation, tmp_path: Path, line: str, what: str, why: str, fix: str
) -> None:
    stages = f"FROM {BASE}\nFROM {BASE}\n{line}\n"
    fill(
        tmp_path,
        {"Dockerfile": stages, ".dockerignore": "*.log\n", "secret.log": "1", "sub/file": "2"},
    )

    said = build(world, tmp_path, check=False)

    assert f"Dockerfile:3: {what}" in said
    assert why in said
    assert fix in said


def test_files_of_any_name_are_copied_and_cached(world: Installation, tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "Dockerfile": f"FROM {BASE}\nCOPY names /n\nCOPY names/*x /m/\n"
            'CMD ["/bin/sh", "-c", "cd /n; for f in *; do cat \\"./$f\\"; done; ls /m | wc -l"]\n',
            "names/": "",
        },
    )
    names = [b"\xffx", b"a\nx", b"-x", b" x", b"$x", "é x".encode(), b"[x", b"\\x", b"'x"]
    for number, name in enumerate(sorted(names)):
        (tmp_path / "names" / os.fsdecode(name)).write_text(f"{number}\n")

    build(world, tmp_path, "-t", "names")
    again = build(world, tmp_path, "-t", "names")

    said = world.hako("container", "run", "--rm", "names").stdout.split()
    assert sorted(said[:-1]) == [str(number) for number in range(len(names))]
    assert int(said[-1]) == len(names) + 1  # one of them has a newline in it
    assert again.count("CACHED") == 2
