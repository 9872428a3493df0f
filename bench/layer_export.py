"""A tree becomes a compressed layer: ours, the upstream algorithm (layer_export.go), docker's COPY.

    .venv/bin/python bench/layer_export.py [--rounds N] [--write] [TREE…]

Whole processes are timed, interpreter start and all; every round takes each once. Trees default to this checkout's
virtual environment and to Go's own installation. Needs go; docker is left out where no `dockerd` is on PATH.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import ROOT, TABLE_HEAD, Series, docker_daemon, interleave, run, timed, write_section

OURS, UPSTREAM, DOCKER = "hakobune", "upstream algorithm", "docker build, COPY"
NAME = "/layers/bench_bench/tree"
UID, GID = 1001, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="put the figures into RESULTS.md")
    parser.add_argument("--export", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export(*arguments.export)
        return
    trees = [tree.resolve() for tree in arguments.trees] or default_trees()
    with (
        tempfile.TemporaryDirectory(prefix="hk-export-", dir="/var/tmp") as scratch,
        docker() as env,
    ):
        run(["go", "build", "-o", f"{scratch}/upstream", str(ROOT / "bench/layer_export.go")])
        results = {tree: measure(tree, Path(scratch), env, arguments.rounds) for tree in trees}
    print(json.dumps({str(tree): as_json(series) for tree, series in results.items()}, indent=2))
    body = "\n\n".join(as_markdown(tree, series) for tree, series in results.items())
    print(body)
    if arguments.write:
        write_section("Layer export", ".venv/bin/python bench/layer_export.py --write", body)


def export(tree: Path, home: Path) -> None:
    """What `hako build` does with a new layer, in a process of its own."""
    sys.path.insert(0, str(ROOT / "src"))
    from hakobune.oci.layer import Owner, Tree, write_layer
    from hakobune.oci.store import Store

    layer = write_layer(Store(home), [Tree(name=NAME, directory=tree)], owner=Owner(UID, GID))
    print(layer.blob.digest, layer.diff_id, layer.blob.size)


def default_trees() -> list[Path]:
    return [ROOT / ".venv", Path(run(["go", "env", "GOROOT"]).strip())]


@contextlib.contextmanager
def docker() -> Iterator[dict[str, str] | None]:
    if shutil.which("dockerd") is None:
        yield None
        return
    with docker_daemon(network=False) as env:
        yield {**env, "DOCKER_BUILDKIT": "0"}


def measure(
    tree: Path, scratch: Path, env: dict[str, str] | None, rounds: int
) -> dict[str, Series]:
    tree = still_copy(tree, scratch)

    def fresh() -> Path:
        return Path(tempfile.mkdtemp(dir=scratch))

    def ours() -> float:
        out = fresh()
        return timed(lambda: answers.append(run_ours(tree, out)))

    def upstream() -> float:
        out = fresh()
        argv = [f"{scratch}/upstream", str(tree), NAME, str(UID), str(GID), str(out)]
        seconds = timed(lambda: answers.append(run(argv)))
        (out / "layer.tar").unlink()
        return seconds

    def copy() -> float:
        # Nothing is removed between the rounds: files made after a large removal are slow on ext4, which would be unfair.
        argv = ["docker", "build", "--no-cache", "-q", "-f", str(dockerfile), str(tree)]
        return timed(lambda: run(argv, env=env))

    answers: list[str] = []
    dockerfile = scratch / "Dockerfile"
    dockerfile.write_text("FROM scratch\nCOPY . /w\n")
    measures: dict[str, Callable[[], float]] = {OURS: ours, UPSTREAM: upstream}
    if env is not None:
        measures[DOCKER] = copy
    series = interleave(measures, rounds=rounds)
    diff_ids = {answer.split()[1] for answer in answers}
    if len(diff_ids) != 1:
        raise SystemExit(f"the diff_ids of {tree} differ: {diff_ids}")
    return series


def still_copy(tree: Path, scratch: Path) -> Path:
    """The tree where nobody writes to it."""
    copy = Path(tempfile.mkdtemp(dir=scratch)) / tree.name
    run(["cp", "-a", str(tree), str(copy)])
    return copy


def run_ours(tree: Path, out: Path) -> str:
    return run([sys.executable, __file__, "--export", str(tree), str(out)])


def as_json(series: dict[str, Series]) -> dict[str, object]:
    base = series[OURS].median
    return {
        name: {
            "median_s": round(s.median, 3),
            "n": len(s.seconds),
            "ratio": round(s.median / base, 2),
        }
        for name, s in series.items()
    }


def as_markdown(tree: Path, series: dict[str, Series]) -> str:
    files, size = 0, 0
    for folder, _, names in os.walk(tree):
        files += len(names)
        size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
    rows = "\n".join(s.row(series[OURS].median) for s in series.values())
    return f"`{tree.name}`: {files} files, {size / 1e6:.0f} MB; equal diff_ids.\n\n{TABLE_HEAD}\n{rows}"


if __name__ == "__main__":
    main()
