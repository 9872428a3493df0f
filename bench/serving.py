"""From an edit to the new text, wakes, and a service's latency while a build keeps every core busy.

    .venv/bin/python bench/serving.py [--rounds N] [--write]

Docker (its daemon started here, BuildKit) is the peer for edit → live: the same base image, the same packages, a
Dockerfile whose last line copies the app. Everything else is measured against ourselves, warm or quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from harness import (
    ROOT,
    TABLE_HEAD,
    docker_daemon,
    interleave,
    need_docker,
    run,
    timed,
    write_section,
)

sys.path.insert(0, str(ROOT))

from hakobune.runtime.supervisor_client import SupervisorClient
from tests.e2e.installation import Installation, new_installation
from tests.e2e.load import Load, ask

PAGE = """\
from flask import Flask

app = Flask(__name__)
TEXT = "{text}"


@app.route("/")
def index():
    return TEXT
"""
REQUIREMENTS = "flask==3.1.1\ngunicorn==23.0.0\nsqlalchemy==2.0.41\nnumpy==2.2.6\n"
DOCKERFILE = """\
FROM hako-base
USER root
ENV PYTHONUNBUFFERED=1
WORKDIR /workspace
COPY requirements.txt ca.crt ./
RUN export SSL_CERT_FILE=/workspace/ca.crt && uv venv -q /venv && VIRTUAL_ENV=/venv uv pip install -q -r requirements.txt
COPY . .
CMD ["/venv/bin/python", "-m", "gunicorn", "--bind", "0.0.0.0:8080", "--workers", "2", "--threads", "8", "main:app"]
"""
CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
SERVER = r"""
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(void) {
    int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
    bind(s, (struct sockaddr *)&a, sizeof a);
    listen(s, 128);
    for (;;) {
        char b[4096];
        int c = accept(s, 0, 0);
        if (c < 0) continue;
        if (read(c, b, sizeof b) > 0) {
            const char *r = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n";
            write(c, r, strlen(r));
        }
        close(c);
    }
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=Path, help="take base images over from this HAKO_HOME")
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    arguments = parser.parse_args()
    need_docker()
    with tempfile.TemporaryDirectory(prefix="hk-bench-", dir="/var/tmp") as folder:
        with new_installation(arguments.seed) as installation:
            body = "\n\n".join(
                [
                    live(installation, Path(folder), arguments.rounds),
                    wakes(installation, Path(folder), arguments.rounds),
                    beside_a_build(installation, Path(folder)),
                ]
            )
    print(body)
    if arguments.write:
        command = f".venv/bin/python bench/serving.py --rounds {arguments.rounds} --write"
        write_section("Serving", command, body)


def live(installation: Installation, folder: Path, rounds: int) -> str:
    """Edit → the new text is answered: `hako deploy` against `docker build` + `docker run`."""
    app = make_app(folder / "live")
    installation.deploy(app)
    with docker_daemon() as docker:
        load_base(installation, folder, docker)
        peer = make_app(folder / "peer")
        (peer / "Dockerfile").write_text(DOCKERFILE)
        shutil.copy(CERTIFICATES, peer / "ca.crt")
        numbers = iter(range(10_000))
        series = interleave(
            {
                "`hako deploy`": lambda: deploy_once(installation, app, next(numbers)),
                "`docker build` + `docker run -p` (BuildKit)": lambda: docker_once(
                    peer, docker, next(numbers)
                ),
            },
            rounds=rounds,
        )
    ours, theirs = series.values()
    return "\n".join(
        ["Edit → live (Flask, numpy, SQLAlchemy; one line changed):", "", TABLE_HEAD]
        + [s.row(ours.median) for s in (ours, theirs)]
    )


def deploy_once(installation: Installation, app: Path, number: int) -> float:
    text = f"ours {number}"
    (app / "main.py").write_text(PAGE.format(text=text))

    def once() -> None:
        installation.hako("deploy", "--source", str(app))
        wait_for_text(lambda: ask(installation.port, "live.localhost").body, text)

    return timed(once)


def docker_once(app: Path, docker: Mapping[str, str], number: int) -> float:
    text, name = f"docker {number}", f"hk-bench-{number}"
    (app / "main.py").write_text(PAGE.format(text=text))
    port = free_port()
    env = {**docker, "DOCKER_BUILDKIT": "1"}

    def once() -> None:
        run(["docker", "build", "-q", "-t", "hk-bench", str(app)], env=env)
        run(["docker", "run", "-d", "--name", name, "-p", f"127.0.0.1:{port}:8080", "hk-bench"], env=env)  # fmt: skip
        wait_for_text(lambda: fetch(port), text)

    seconds = timed(once)
    run(["docker", "rm", "-f", name], env=env)
    return seconds


def wakes(installation: Installation, folder: Path, rounds: int) -> str:
    """A static C server: warm, frozen and cold requests."""
    app = folder / "srv"
    app.mkdir()
    (app / "srv.c").write_text(SERVER)
    run(["gcc", "-O2", "-static", "-o", str(app / "srv"), str(app / "srv.c")])
    (app / "Procfile").write_text("web: /workspace/srv\n")
    installation.deploy(app)
    host = "srv.localhost"
    warm = [ask(installation.port, host).seconds for _ in range(200)]
    frozen, cold = [], []
    for _ in range(rounds):
        ask(installation.port, host)
        time.sleep(12)  # frozen after ten idle seconds
        frozen.append(ask(installation.port, host).seconds)
    for number in range(rounds):
        # A revision whose instances end one after the other is started ever later: each gets one end.
        (app / "round").write_text(str(number))
        installation.deploy(app)
        time.sleep(1)
        stop_instances(installation, "srv")
        time.sleep(1)
        answer = ask(installation.port, host)
        assert answer.status == 200, answer
        cold.append(answer.seconds)
    rows = [
        f"| {name} | {statistics.median(values) * 1e3:.2f} | {min(values) * 1e3:.2f}–{max(values) * 1e3:.2f} | {len(values)} |"
        for name, values in (
            ("warm", warm),
            ("frozen", frozen),
            ("cold, held by the ingress", cold),
        )
    ]
    return "\n".join(
        [
            "A request to a static C server (its own boot is 1 ms), connection included:",
            "",
            "| instance | median ms | min–max | n |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def beside_a_build(installation: Installation, folder: Path) -> str:
    """p99 of a warm service, quiet and while builds keep every core busy."""
    host = "srv.localhost"
    ask(installation.port, host)
    with Load(installation.port, host, rate=100) as quiet:
        time.sleep(15)
    app = make_app(folder / "busy")
    (app / "Procfile").write_text("web: python main.py\n")
    with Load(installation.port, host, rate=100) as busy, endless_builds(installation, folder):
        time.sleep(15)
    assert not quiet.failures()
    assert not busy.failures()
    ratio = busy.percentile(0.99) / quiet.percentile(0.99)
    return (
        f"p99 at 100 requests/s: quiet {quiet.percentile(0.99) * 1e3:.1f} ms, while a build keeps both "
        f"cores busy {busy.percentile(0.99) * 1e3:.1f} ms: {ratio:.1f}x "
        f"({len(quiet.answers)} and {len(busy.answers)} requests, none failed)."
    )


@contextlib.contextmanager
def endless_builds(installation: Installation, folder: Path) -> Iterator[None]:
    """A build whose buildpack spins on every core until the block ends."""
    buildpack = folder / "spin"
    (buildpack / "bin").mkdir(parents=True)
    (buildpack / "buildpack.toml").write_text(
        'api = "0.12"\n[buildpack]\nid = "bench/spin"\nversion = "1.0.0"\n[[targets]]\nos = "linux"\n'
    )
    for name, text in (
        ("detect", "exit 0"),
        ("build", "for i in 1 2 3 4; do (while :; do :; done) & done; sleep 30"),
    ):
        (buildpack / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (buildpack / "bin" / name).chmod(0o755)
    builder = installation.start(
        "build", "hako/apps/spin", "--path", str(folder / "busy"), "--buildpack", str(buildpack)
    )
    time.sleep(3)
    try:
        yield
    finally:
        assert builder.poll() is None, "the build ended before the measurement"
        builder.kill()
        builder.wait()


def make_app(folder: Path) -> Path:
    folder.mkdir()
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    (folder / "main.py").write_text(PAGE.format(text="0"))
    return folder


def load_base(installation: Installation, folder: Path, docker: Mapping[str, str]) -> None:
    """Give docker the image that our builds start from."""
    archive = folder / "base.tar"
    source = f"oci:{installation.home}/images:docker.io/hako/builder:13"
    run(["skopeo", "copy", "-q", source, f"docker-archive:{archive}:hako-base:latest"])
    run(["docker", "load", "-q", "-i", str(archive)], env=docker)
    archive.unlink()


def stop_instances(installation: Installation, service: str) -> None:
    with SupervisorClient(installation.home / "run" / "supervisor.sock") as supervisor:
        for status in supervisor.list():
            if any(service in value for value in status.labels.values()):
                supervisor.stop(status.id, timeout_s=0.1)


def wait_for_text(read: Callable[[], bytes], text: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if read() == text.encode():
            return
        time.sleep(0.002)
    raise SystemExit(f"{text!r} is never answered")


def fetch(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2) as answer:
            return bytes(answer.read())
    except OSError:
        return b""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
