"""One Dockerfile by us, by docker's BuildKit and by buildah: all of it, nothing changed, one line changed.

    .venv/bin/python bench/dockerfile.py [--rounds N] [--seed HAKO_HOME] [--write]

Two stages over the same base image: a virtual environment is made and copied into the final stage, whose last line
copies the app. `cold` carries out every step (`--no-cache`, and whatever a step downloads is downloaded); our figure
includes the compressed layers, docker's and buildah's stores keep theirs uncompressed. Times are of the client process.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from builds import CERTIFICATES, edited, load_base, make_app, unchanged
from harness import TABLE_HEAD, Series, docker_daemon, interleave, run, timed, write_section

from tests.e2e.installation import Installation, new_installation

BASE = "hako-base"
TWO_STAGES = f"""\
FROM {BASE} AS build
USER root
WORKDIR /workspace
COPY requirements.txt ca.crt ./
RUN export SSL_CERT_FILE=/workspace/ca.crt && uv venv -q /venv && VIRTUAL_ENV=/venv uv pip install -q -r requirements.txt

FROM {BASE}
USER root
ENV PATH=/venv/bin:$PATH
WORKDIR /workspace
COPY --from=build /venv /venv
COPY . .
EXPOSE 8080
CMD ["gunicorn", "main:app"]
"""
# 12,000 small files, made, copied, moved and removed, without the network: what the machinery itself costs.
MANY_STEPS = f"""\
FROM {BASE} AS build
USER root
WORKDIR /src
RUN mkdir /out && for n in 1 2 3 4 5 6 7 8 9; do cp -r /usr/share/perl /out/$n; done
RUN cp -r /out /copy && rm -r /copy/1
RUN echo done >/out/done

FROM {BASE}
USER root
ENV A=1
COPY --from=build /out /out
RUN chmod -R a+rX /out/2
RUN rm -r /out/3
WORKDIR /workspace
COPY . .
CMD ["cat", "main.py"]
"""
Build = Callable[..., object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=Path, help="take base images over from this HAKO_HOME")
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hk-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        with new_installation(arguments.seed) as installation:
            installation.hako("build", "bench/app", "-p", str(make_app(folder / "seed")))
            installation.hako("image", "tag", "hako/builder:13", BASE)
            load = os.getloadavg()[0]
            parts = list(compare(installation, folder, arguments.rounds))
            parts.append(
                f"{os.cpu_count()} cores, load {load:.1f} before and {os.getloadavg()[0]:.1f} after."
            )
    body = "\n\n".join(parts)
    print(body)
    if arguments.write:
        command = f".venv/bin/python bench/dockerfile.py --rounds {arguments.rounds} --write"
        write_section("Dockerfiles", command, body)


def compare(installation: Installation, folder: Path, rounds: int) -> Iterator[str]:
    with docker_daemon(network=False) as daemon, buildah_store(folder) as places:
        load_base(installation, folder, daemon)
        source = f"oci:{installation.home}/images:docker.io/library/{BASE}:latest"
        run(["buildah", *places, "pull", "-q", source])
        image = run(["buildah", *places, "images", "-q"]).split()[0]
        run(["buildah", *places, "tag", image, f"localhost/{BASE}:latest"])
        for title, text in (("Flask, with downloads", TWO_STAGES), ("Files alone", MANY_STEPS)):
            yield measure(title, text, installation, daemon, places, folder, rounds)


def measure(
    title: str,
    text: str,
    installation: Installation,
    daemon: Mapping[str, str],
    places: list[str],
    folder: Path,
    rounds: int,
) -> str:
    measures: dict[str, Callable[[], float]] = {}
    for tool, build in (
        ("hako", hako(installation)),
        ("BuildKit", docker({**daemon, "DOCKER_BUILDKIT": "1"})),
        ("buildah", buildah(places)),
    ):
        app = make_app(Path(tempfile.mkdtemp(dir=folder)) / "app")
        (app / "Dockerfile").write_text(text)
        shutil.copyfile(CERTIFICATES, app / "ca.crt")
        measures[f"cold: {tool}"] = cold(build, app)
        measures[f"nothing changed: {tool}"] = unchanged(again(build, app))
        measures[f"one line: {tool}"] = edited(app, again(build, app))
    taken = interleave(dict(sorted(measures.items())), rounds=rounds)
    rows = [s.row(taken[f"{name.partition(':')[0]}: hako"].median) for name, s in taken.items()]
    return "\n".join([f"{title}. Ratios are to hako's.", "", TABLE_HEAD, *rows, "", judged(taken)])


def cold(build: Build, app: Path) -> Callable[[], float]:
    return lambda: timed(lambda: build(app, "--no-cache"))


def again(build: Build, app: Path) -> Callable[[], object]:
    return lambda: build(app)


def hako(installation: Installation) -> Build:
    return lambda app, *more: installation.hako(
        "dockerfile", "build", "-q", "-t", "bench/dockerfile", *more, str(app)
    )


def docker(env: Mapping[str, str]) -> Build:
    argv = ["docker", "build", "-q", "--network", "host", "-t", "hk-bench"]
    return lambda app, *more: run([*argv, *more, str(app)], env=env)


def buildah(places: list[str]) -> Build:
    argv = [
        "buildah", *places, "build", "-q", "--layers", "--network", "host", "--runtime", "runc",
        "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--pull-never", "-t", "hk-bench",
    ]  # fmt: skip
    return lambda app, *more: run([*argv, *more, str(app)])


@contextmanager
def buildah_store(folder: Path) -> Iterator[list[str]]:
    """Its global arguments: a store of its own on overlay, gone afterwards."""
    places = ["--root", str(folder / "store"), "--runroot", str(folder / "run"), "--storage-driver", "overlay"]  # fmt: skip
    try:
        yield places
    finally:
        run(["buildah", *places, "rm", "--all"])
        run(["buildah", *places, "rmi", "--all", "--force"])


def judged(taken: Mapping[str, Series]) -> str:
    """The targets, and how far they are."""

    def ratio(measure: str, tool: str) -> float:
        return taken[f"{measure}: hako"].median / taken[f"{measure}: {tool}"].median

    return (
        f"Targets: cold ≤ 0.8 × BuildKit ({ratio('cold', 'BuildKit'):.2f}) and ≤ 0.5 × buildah "
        f"({ratio('cold', 'buildah'):.2f}); nothing changed ≤ 1.5 × BuildKit "
        f"({ratio('nothing changed', 'BuildKit'):.2f}) and ≤ 0.15 × buildah "
        f"({ratio('nothing changed', 'buildah'):.2f}); one line ≤ 1.5 × BuildKit "
        f"({ratio('one line', 'BuildKit'):.2f}) and ≤ 0.15 × buildah ({ratio('one line', 'buildah'):.2f})."
    )


if __name__ == "__main__":
    main()
