"""A build with nothing changed, with one line changed, and beside a kept layer of 1 GiB.

    .venv/bin/python bench/builds.py [--rounds N] [--seed HAKO_HOME] [--write]

Docker (its daemon started here; BuildKit and the legacy builder) is the peer: it starts from our own builder image,
installs the same packages with the same uv, and its Dockerfile's last line copies the app. Its figures are those of
the client program, as ours are those of `hako`: `-q`, wall clock around the process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

from harness import (
    ROOT,
    TABLE_HEAD,
    Series,
    docker_daemon,
    interleave,
    need_docker,
    run,
    timed,
    write_section,
)

sys.path.insert(0, str(ROOT))

from tests.e2e.installation import HAKO, Installation, new_installation

PAGE = """\
from flask import Flask

app = Flask(__name__)


@app.route("/")
def index():
    return "{text}"
"""
REQUIREMENTS = "flask==3.1.1\ngunicorn==23.0.0\nsqlalchemy==2.0.41\n"
DOCKERFILE = """\
FROM hako-base
USER root
WORKDIR /workspace
COPY requirements.txt ca.crt ./
RUN export SSL_CERT_FILE=/workspace/ca.crt && uv venv -q /venv && VIRTUAL_ENV=/venv uv pip install -q -r requirements.txt
COPY . .
CMD ["/venv/bin/gunicorn", "main:app"]
"""
CERTIFICATES = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
# A buildpack with one cached launch layer of MEGABYTES; random, so that nothing can make it small.
BIG_TOML = """\
api = "0.10"
[buildpack]
id = "bench/big"
version = "1"
name = "One big layer"
[[targets]]
os = "linux"
"""
BIG_DETECT = "#!/bin/sh\nexit 0\n"
BIG_BUILD = """\
#!/bin/sh
set -e
big=$CNB_LAYERS_DIR/big
if [ ! -d "$big" ]; then
    mkdir "$big"
    for number in $(seq $((MEGABYTES / 64))); do head -c 64M /dev/urandom >"$big/$number"; done
    for number in $(seq $((MEGABYTES * 30))); do echo "$number" >"$big/small-$number"; done
fi
printf '[types]\\nlaunch = true\\ncache = true\\n' >"$big.toml"
"""
PACK_ONE_LINE = 2.66
# Figures of rivals that are not measured here: medians on the same kind of machine (2 cores), from an earlier day.
PUBLISHED = """\
| published, not measured here | nothing changed | one line | one line, 1 GiB kept |
| --- | --- | --- | --- |
| `pack build`, trusted builder (pack 0.40.6, lifecycle 0.21.14) | 2.27 | 2.66 | 24.1 |
| `buildah build` | 1.01 | 1.87 | |
| `docker build`, BuildKit | 0.074 | 0.086 | 0.096 |"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seed", type=Path, help="take base images over from this HAKO_HOME")
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    arguments = parser.parse_args()
    need_docker()
    with tempfile.TemporaryDirectory(prefix="hk-bench-", dir="/var/tmp") as name:
        with new_installation(arguments.seed) as installation:
            folder = Path(name)
            app = make_app(folder / "app")
            installation.hako("build", "bench/app", "-p", str(app))
            load = os.getloadavg()[0]
            parts = [
                against_docker(installation, app, folder, arguments.rounds),
                big_layer(installation, folder, arguments.rounds),
                where_the_time_goes(installation, app, arguments.rounds),
                opened_files(installation, app, folder),
                PUBLISHED,
                f"{os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after.",
            ]
    body = "\n\n".join(parts)
    print(body)
    if arguments.write:
        command = f".venv/bin/python bench/builds.py --rounds {arguments.rounds} --write"
        write_section("Builds", command, body)


def against_docker(installation: Installation, app: Path, folder: Path, rounds: int) -> str:
    """The same app by us and by docker; with the supervisor (as dockerd is there), and without it."""
    peer = make_app(folder / "peer")
    (peer / "Dockerfile").write_text(DOCKERFILE)
    shutil.copyfile(CERTIFICATES, peer / "ca.crt")
    with docker_daemon(network=False) as daemon:
        load_base(installation, folder, daemon)
        build = hako_build(installation, "bench/app", app)
        kit = docker_build(peer, {**daemon, "DOCKER_BUILDKIT": "1"})
        legacy = docker_build(peer, {**daemon, "DOCKER_BUILDKIT": "0"})
        kit()
        legacy()
        measures = {
            "nothing changed: hako": unchanged(build),
            "nothing changed: BuildKit": unchanged(kit),
            "nothing changed: docker legacy": unchanged(legacy),
            "one line: hako": edited(app, build),
            "one line: BuildKit": edited(peer, kit),
            "one line: docker legacy": edited(peer, legacy),
        }
        installation.hako("serve")
        taken = interleave(measures, rounds=rounds)
        installation.hako("serve", "--stop")
        alone = interleave(
            {"one line: hako, no supervisor runs": edited(app, build)}, rounds=rounds
        )
    size = environment_size(installation)
    rows = [*table_rows(taken), *(s.row(taken["one line: hako"].median) for s in alone.values())]
    head = (
        f"Flask, gunicorn, SQLAlchemy: an environment of {size / 1e6:.0f} MB. Ratios are to hako's."
    )
    return "\n".join([head, "", TABLE_HEAD, *rows, "", judged(taken)])


def judged(taken: Mapping[str, Series]) -> str:
    """The targets, and how far they are."""
    same, line = taken["nothing changed: hako"].median, taken["one line: hako"].median
    kit = line / taken["one line: BuildKit"].median
    return (
        f"Targets: nothing changed ≤ 0.1 s ({same:.3f}); one line ≤ 2 × BuildKit ({kit:.1f} ×) and "
        f"≥ 12 × faster than pack's published {PACK_ONE_LINE} s ({PACK_ONE_LINE / line:.1f} ×)."
    )


def table_rows(taken: Mapping[str, Series]) -> Iterator[str]:
    for name, series in taken.items():
        yield series.row(taken[f"{name.partition(':')[0]}: hako"].median)


def big_layer(installation: Installation, folder: Path, rounds: int) -> str:
    """One line changed beside a kept launch layer of 1 GiB and 30,000 small files, and beside an empty one."""
    measures: dict[str, Callable[[], float]] = {}
    firsts = []
    installation.hako("serve")
    for megabytes in (0, 1024):
        app = make_app(folder / f"app-{megabytes}")
        buildpack = make_big_buildpack(folder / f"big-{megabytes}", megabytes)
        build = hako_build(
            installation, f"bench/big-{megabytes}", app, "-b", str(buildpack), "-b", "hako/python"
        )
        firsts.append(timed(build))
        measures[f"one line, {megabytes} MiB kept"] = edited(app, build)
    taken = interleave(measures, rounds=rounds)
    installation.hako("serve", "--stop")
    base = taken["one line, 0 MiB kept"].median
    return "\n".join(
        [
            f"A kept layer (1 GiB of random bytes, 30,720 small files; first build {firsts[1]:.1f} s against {firsts[0]:.1f} s):",
            "",
            TABLE_HEAD,
            *(series.row(base) for series in taken.values()),
        ]
    )


def make_big_buildpack(folder: Path, megabytes: int) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "buildpack.toml").write_text(BIG_TOML)
    for name, text in (("detect", BIG_DETECT), ("build", BIG_BUILD)):
        (folder / "bin" / name).write_text(text.replace("MEGABYTES", str(megabytes)))
        (folder / "bin" / name).chmod(0o755)
    return folder


def where_the_time_goes(installation: Installation, app: Path, rounds: int) -> str:
    """The phases of a build with one line changed, as `--verbose` tells them."""
    installation.hako("serve")
    seen: dict[str, list[float]] = {}
    whole = []
    for number in range(rounds):
        edit(app, f"phase {number}")
        begun = time.perf_counter()
        done = installation.hako("build", "bench/app", "-p", str(app), "-v")
        whole.append(time.perf_counter() - begun)
        for name, seconds in re.findall(r"(\w+) took ([0-9.]+) s", done.stderr):
            seen.setdefault(name, []).append(float(seconds))
    installation.hako("serve", "--stop")
    phases = ", ".join(f"{name} {Series('', tuple(s)).median:.2f}" for name, s in seen.items())
    return (
        f"Where one line's {Series('', tuple(whole)).median:.2f} s go: {phases}; the interpreter and what the command "
        f"imports before the first phase {start_up(rounds):.2f}; the rest makes namespaces, mounts and the network, "
        "copies the source and commits."
    )


def start_up(rounds: int) -> float:
    """The seconds that Python needs to start and import what a build has imported before its first phase."""
    program = "import os, hakobune.cli.build, hakobune.builds.transaction; os._exit(0)"
    argv = [str(ROOT / ".venv/bin/python"), "-I", "-c", program]
    return Series("", tuple(timed(lambda: run(argv)) for _ in range(rounds))).median


def opened_files(installation: Installation, app: Path, folder: Path) -> str:
    """How many files of kept layers our own processes open in a build again of the very same (strace)."""
    if shutil.which("strace") is None:
        return "strace is not installed: opened files are not counted."
    trace = folder / "strace"
    strace = f"strace -f -y -Y -qq -e trace=open,openat,openat2 -o {trace}"
    build = f"{HAKO} build bench/app -p {app} --rebuild -q"
    run([*strace.split(), *build.split()], env=installation.env)
    kept = kept_layers(installation)
    places = [f"{path}/" for path in kept] + [f"snapshots/{key}/tree" for key in kept.values()]
    opened = [
        line
        for line in trace.read_text(errors="replace").splitlines()
        if re.match(r"\d+<(hako|python)>", line)
        and any(place in line for place in places)
        and "O_DIRECTORY" not in line
        and "O_PATH" not in line
        and "= -1" not in line
    ]
    shown = "".join(f"\n    {line[:150]}" for line in opened[:5])
    return (
        f"`--rebuild` with nothing changed: our own processes open {len(opened)} files of the "
        f"{len(kept)} kept layers.{shown}"
    )


def kept_layers(installation: Installation) -> dict[str, str]:
    """The path in the sandbox of each kept layer of the app, with its snapshot's key."""
    (record,) = (installation.home / "builds").glob("*bench%2Fapp*/record.json")
    return {
        f"layers/{buildpack['key'].replace('/', '_')}/{name}": layer["snapshot"]
        for buildpack in json.loads(record.read_text())["kept"]["buildpacks"]
        for name, layer in buildpack["layers"].items()
    }


def environment_size(installation: Installation) -> int:
    """Bytes of the kept virtual environment, whose snapshot may be a stack of folders."""
    ((path, key),) = [item for item in kept_layers(installation).items() if "/venv" in item[0]]
    snapshot = installation.home / "snapshots" / key
    files = {str(f).partition(path)[2]: f.lstat().st_size for f in snapshot.rglob(f"*/{path}/**/*")}
    return sum(files.values())


def make_app(folder: Path) -> Path:
    folder.mkdir()
    edit(folder, "first")
    (folder / "requirements.txt").write_text(REQUIREMENTS)
    return folder


def edit(app: Path, text: str) -> None:
    (app / "main.py").write_text(PAGE.format(text=text))


def unchanged(build: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        build()  # whatever was changed by the measure before
        return timed(build)

    return measure


def edited(app: Path, build: Callable[[], object]) -> Callable[[], float]:
    numbers = count()

    def measure() -> float:
        edit(app, f"{id(build)} {next(numbers)}")
        return timed(build)

    return measure


def hako_build(
    installation: Installation, name: str, app: Path, *more: str
) -> Callable[[], object]:
    return lambda: installation.hako("build", name, "-p", str(app), "-q", *more)


def docker_build(app: Path, env: Mapping[str, str]) -> Callable[[], object]:
    argv = ["docker", "build", "-q", "--network", "host", "-t", "hk-bench", str(app)]
    return lambda: run(argv, env=env)


def load_base(installation: Installation, folder: Path, docker: Mapping[str, str]) -> None:
    """Give docker the image that our builds start from."""
    archive = folder / "base.tar"
    source = f"oci:{installation.home}/images:docker.io/hako/builder:13"
    run(["skopeo", "copy", "-q", source, f"docker-archive:{archive}:hako-base:latest"])
    run(["docker", "load", "-q", "-i", str(archive)], env=docker)
    archive.unlink()


if __name__ == "__main__":
    main()
