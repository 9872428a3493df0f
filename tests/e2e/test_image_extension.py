"""An app that needs a Debian package: by an image made by hand, by a `run.Dockerfile`, and what is said when that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.e2e.load import ask

pytestmark = pytest.mark.needs_root

# Answers with what the package's program says.
APP = """\
import os
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            said = subprocess.run(["jq", "-n", "1 + 2"], capture_output=True).stdout
        except FileNotFoundError:
            said = b"no jq"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(said.strip() + b"{mark}")


HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""
JQ = "RUN apt-get update && apt-get install -y --no-install-recommends jq && rm -rf /var/lib/apt/lists/*\n"
RUN_DOCKERFILE = f"ARG base_image\nFROM ${{base_image}}\nUSER root\n{JQ}USER cnb\n"


def an_app(parent: Path, name: str, **dockerfiles: str) -> Path:
    folder = parent / name
    folder.mkdir()
    (folder / "main.py").write_text(APP.replace("{mark}", ""))
    (folder / "Procfile").write_text("web: python main.py\n")
    for kind, text in dockerfiles.items():
        (folder / f"{kind}.Dockerfile").write_text(text)
    return folder


def answer(installation: Installation, service: str) -> bytes:
    return ask(installation.port, f"{service}.localhost").body


def test_a_run_dockerfile_is_noticed_applied_kept_and_reported(
    shared_installation: Installation, tmp_path: Path
) -> None:
    installation, folder = shared_installation, an_app(tmp_path, "sums", run=RUN_DOCKERFILE)

    first = installation.hako("deploy", "--source", str(folder))

    assert "run image extended by run.Dockerfile: 1 layer, " in first.stderr
    assert "warning" not in first.stderr
    assert answer(installation, "sums") == b"3"
    (folder / "main.py").write_text(APP.replace("{mark}", "!"))
    second = installation.hako("deploy", "-v", "--source", str(folder))
    assert "CACHED" in second.stderr
    assert answer(installation, "sums") == b"3!"
    unchanged = installation.hako("deploy", "--source", str(folder))
    assert "nothing that goes in has changed" in unchanged.stderr
    inspected = installation.hako("image", "inspect", "--format", "json", "hako/apps/sums")
    assert '"io.buildpacks.rebasable": "false"' in inspected.stdout

    installation.hako("deploy", "--no-extend", "--source", str(folder))
    assert answer(installation, "sums") == b"no jq!"


def test_a_run_image_made_by_hand_serves_as_well(
    shared_installation: Installation, tmp_path: Path
) -> None:
    installation, folder = shared_installation, an_app(tmp_path, "byhand")
    images = tmp_path / "images"
    images.mkdir()
    (images / "Dockerfile").write_text(f"FROM hako/base-run:13\nUSER root\n{JQ}USER cnb\n")

    installation.hako("dockerfile", "build", "-t", "mine/run-jq", str(images))
    installation.hako("deploy", "--run-image", "mine/run-jq", "--source", str(folder))

    assert answer(installation, "byhand") == b"3"


def test_a_build_dockerfile_gives_buildpacks_what_they_need(
    shared_installation: Installation, tmp_path: Path
) -> None:
    folder = an_app(tmp_path, "tools", build=f"FROM hako/builder:13\nUSER root\n{JQ}")
    buildpack = tmp_path / "uses-jq"
    (buildpack / "bin").mkdir(parents=True)
    (buildpack / "buildpack.toml").write_text(
        'api = "0.12"\n[buildpack]\nid = "test/jq"\nversion = "1.0.0"\n[[targets]]\nos = "linux"\n'
    )
    for name, text in (("detect", "exit 0"), ("build", "id -u; jq -n '\"sum \\(1 + 2)\"'")):
        (buildpack / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (buildpack / "bin" / name).chmod(0o755)

    done = shared_installation.hako(
        "build", "test/tools", "--path", str(folder), "--buildpack", str(buildpack)
    )

    assert "build image extended by build.Dockerfile: 1 layer, " in done.stderr
    assert '"sum 3"' in done.stderr
    assert "\n1001\n" in done.stderr  # buildpacks run as the build user all the same


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "FROM hako/base-run:13\nUSER root\nRUN true\n",
            (
                "error: run.Dockerfile:2: the app would run as root",
                "  why: its last USER is root",
                "  fix: end the file with USER 1002:1000, or allow it with --allow-root",
            ),
        ),
        (
            "FROM hako/base-run:13\nRUN true\nUSER\n",
            ("error: run.Dockerfile:3: USER needs a value",),
        ),
        (
            "# old\nFROM old/debian:12\nUSER 1002\n",
            (
                "error: run.Dockerfile:2: old/debian:12 is no base for this builder",
                "  why: it is linux/amd64 (debian 12), the builder's build image is linux/amd64 (debian 13)",
                "  fix: FROM hako/base-run:13",
            ),
        ),
        (
            "FROM hako/base-run:13\nUSER nobodyhere\n",
            (
                "error: run.Dockerfile:2: the image has no user 'nobodyhere'",
                "  why: it is not in the image's /etc/passwd",
            ),
        ),
        (
            "FROM hako/base-run:13\nUSER root\nRUN echo boss:x:0:0::/:/bin/sh >>/etc/passwd\nUSER boss\n",
            ("error: run.Dockerfile:4: the app would run as root", "  why: its result runs as root"),
        ),
        ("FROM hako/base-run:13\nRUNN true\n", ("error: run.Dockerfile:2:1: RUNN: unknown instruction",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_before_anything_is_built(
    shared_installation: Installation, tmp_path: Path, text: str, lines: tuple[str, ...]
) -> None:
    installation, folder = shared_installation, an_app(tmp_path, "wrong", run=text)
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nLABEL io.buildpacks.base.distro.name=debian io.buildpacks.base.distro.version=12\n"
    )
    installation.hako("dockerfile", "build", "-t", "old/debian:12", str(tmp_path))

    done = installation.hako("build", "test/wrong", "--path", str(folder), check=False)

    assert done.returncode == 1
    shown = done.stderr.splitlines()
    start = shown.index(lines[0])
    assert tuple(shown[start : start + len(lines)]) == lines
    assert "ANALYZING" not in done.stderr
