"""BuildKit's own parser, shell words and ignore patterns against ours: same files accepted, same meaning.

Its answers are recorded; where Go is, it is asked again. After a change of the cases:
`.venv/bin/python -m tests.contract.test_dockerfile_language` records anew.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from posixpath import normpath
from typing import Any

import pytest

from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.expand import expand
from hakobune.dockerfile.git_source import is_git, read_git_source
from hakobune.dockerfile.ignore_file import IgnoreFile
from hakobune.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    CommandLine,
    Copy,
    Dockerfile,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    KeyValue,
    Label,
    Maintainer,
    Mount,
    MountType,
    Onbuild,
    Run,
    Sharing,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from hakobune.dockerfile.parse import parse
from hakobune.dockerfile.patterns import glob_matcher
from hakobune.dockerfile.substitute import substitute
from tests.contract.dockerfile_questions import (
    DOCKERFILES,
    ENVIRONMENT,
    GLOBS,
    IGNORE_FILES,
    PATHS,
    REPOSITORIES,
    WORDS,
)

HERE = Path(__file__).parent
RECORDED = HERE / "gobuildkit" / "answers.json"

QUESTIONS = {
    "Dockerfiles": DOCKERFILES,
    "Environment": ENVIRONMENT,
    "Words": [{"Text": text, "Escape": escape} for text, escape in WORDS],
    "Ignore": [{"File": file, "Paths": PATHS} for file in IGNORE_FILES],
    "Globs": [{"Pattern": pattern, "Path": path} for pattern, path in GLOBS],
    "Repositories": REPOSITORIES,
}

# Accepted there at first, refused here at once: a trigger that no build can use, and what its next step refuses anyway.
STRICTER = {
    "FROM a\nONBUILD UNKNOWN x\n",
    "FROM a\nONBUILD COPY a\n",
    "FROM a\nCOPY --from=$A a b\n",
}
# Values are checked when they are put in; there, when the image is put together.
CHECKED_LATER_THERE = (Expose, Stopsignal)


def by_buildkit() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="hk-go-") as scratch:
        binary = Path(scratch) / "gobuildkit"
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
        subprocess.run(
            ["go", "build", "-o", binary, "."],
            cwd=HERE / "gobuildkit",
            env=environment,
            check=True,
            capture_output=True,
        )
        done = subprocess.run(
            [binary], input=json.dumps(QUESTIONS).encode(), check=True, capture_output=True
        )
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


def recorded() -> dict[str, Any]:
    document = json.loads(RECORDED.read_bytes())
    assert document["questions"] == json.loads(json.dumps(QUESTIONS)), "record the answers anew"
    answers: dict[str, Any] = document["answers"]
    return answers


ANSWERS = recorded() if __name__ != "__main__" else {}


@pytest.mark.skipif(shutil.which("go") is None, reason="no go here; the recorded answers remain")
def test_the_recorded_answers_are_buildkits():
    had = subprocess.run(["go", "mod", "download"], cwd=HERE / "gobuildkit", capture_output=True)
    if had.returncode:
        pytest.skip("BuildKit's modules cannot be had here; the recorded answers remain")

    assert by_buildkit() == ANSWERS


@pytest.mark.parametrize("number", range(len(DOCKERFILES)))
def test_a_dockerfile_is_understood_as_buildkit_does(number: int):
    text = DOCKERFILES[number]
    try:
        ours = described(parse(text, "Dockerfile"))
    except DockerfileError:
        ours = None

    if text in STRICTER:
        assert ours is None
        assert ANSWERS["dockerfiles"][number] is not None
    else:
        assert ours == comparable(ANSWERS["dockerfiles"][number]), text


@pytest.mark.parametrize("number", range(len(WORDS)))
def test_a_word_is_expanded_as_buildkit_does(number: int):
    text, escape = WORDS[number]
    try:
        ours = expand(text, ENVIRONMENT, escape)
    except TextError:
        ours = None

    assert ours == ANSWERS["words"][number], text


@pytest.mark.parametrize("number", range(len(IGNORE_FILES)))
def test_an_ignore_file_leaves_out_what_docker_leaves_out(number: int):
    try:
        ignore = IgnoreFile.parse(IGNORE_FILES[number], ".dockerignore")
        ours = {path: ignore.ignores(path) for path in PATHS}
    except DockerfileError:
        ours = None

    theirs = ANSWERS["ignore"][number]
    assert ours == (None if theirs is None else dict(zip(PATHS, theirs, strict=True)))


@pytest.mark.parametrize("number", range(len(GLOBS)))
def test_a_glob_matches_what_gos_filepath_match_does(number: int):
    pattern, path = GLOBS[number]
    try:
        ours = glob_matcher(pattern)(path) is not None
    except TextError:
        ours = None

    assert ours == ANSWERS["globs"][number], (pattern, path)


@pytest.mark.parametrize("number", range(len(REPOSITORIES)))
def test_a_repository_is_understood_as_buildkit_does(number: int):
    text = REPOSITORIES[number]
    ours: Any = None
    if is_git(text):
        try:
            source = read_git_source(text)
            ours = {
                "remote": source.remote,
                "ref": source.ref,
                "folder": source.folder,
                "commit": source.commit,
                "keep": source.keep_git_dir,
                "submodules": source.submodules,
            }
        except TextError:
            ours = "error"

    theirs = copy.copy(ANSWERS["repositories"][number])
    if isinstance(theirs, dict):
        # There it is cleaned when it is used.
        theirs["folder"] = normpath("/" + theirs["folder"]).lstrip("/")
    assert ours == theirs, text


def described(dockerfile: Dockerfile) -> dict[str, Any]:
    """Ours in the oracle's words."""
    return {
        "meta": [instruction(arg, dockerfile.escape) for arg in dockerfile.meta_args],
        "stages": [
            {
                "name": stage.name,
                "base": stage.base,
                "platform": stage.platform,
                "commands": [instruction(one, dockerfile.escape) for one in stage.instructions],
            }
            for stage in dockerfile.stages
        ],
        "escape": dockerfile.escape,
    }


def instruction(one: Instruction, escape: str) -> Any:
    original = one
    try:
        one = substitute(one, ENVIRONMENT, escape).instruction
    except DockerfileError:
        if not isinstance(one, CHECKED_LATER_THERE):
            return "error"
    is_ = {"is": one.keyword}
    match one:
        case Arg(variables=variables) | Env(variables=variables):
            return {**is_, "pairs": pairs(variables)}
        case Label(labels=labels):
            return {**is_, "pairs": pairs(labels)}
        case Copy() | Add():
            common = [one.chown, one.chmod, one.link, list(one.exclude)]
            own = (
                [one.from_, one.parents]
                if isinstance(one, Copy)
                else [one.checksum, one.keep_git_dir, one.unpack]
            )
            return {
                **is_,
                "sources": list(one.sources),
                "files": [[file.name, file.content, file.expand] for file in one.files],
                "destination": one.destination,
                "flags": common + own,
            }
        case Run():
            return {
                **command(one.command, is_),
                "network": one.network or "default",
                "security": one.security or "sandbox",
                "mounts": [mount(each) for each in one.mounts],
            }
        case Cmd() | Entrypoint():
            return command(one.command, is_)
        case Healthcheck():
            times = [one.interval_ns, one.timeout_ns, one.start_period_ns, one.start_interval_ns]
            return {**is_, "test": list(one.test), "times": [*times, one.retries]}
        case Shell(words=words) | Volume(paths=words):
            return {**is_, "words": list(words)}
        case Expose():
            assert isinstance(original, Expose)
            return {**is_, "words": list(original.ports)}
        case User(user=word) | Workdir(path=word) | Maintainer(name=word):
            return {**is_, "words": [word]}
        case Stopsignal():
            assert isinstance(original, Stopsignal)
            return {**is_, "words": [expand(original.signal, ENVIRONMENT, escape)]}
        case Onbuild(expression=word):
            return {**is_, "words": [word]}
        case _:
            raise AssertionError(one)


def pairs(variables: Iterable[KeyValue]) -> list[list[str | None]]:
    return [[one.key, one.value] for one in variables]


def command(line: CommandLine, is_: dict[str, Any]) -> dict[str, Any]:
    files = [[file.name, file.content, file.strip_tabs] for file in line.heredocs]
    return {**is_, "words": list(line.words), "shell": line.shell, "files": files}


def mount(one: Mount) -> list[Any]:
    return [
        one.type, one.from_, one.target, one.read_only, one.size_bytes, one.id, one.sharing,
        one.required, one.env, one.mode, one.uid, one.gid, one.source,
    ]  # fmt: skip


def comparable(theirs: dict[str, Any] | None) -> dict[str, Any] | None:
    """The oracle's answer with the defaults filled in that we fill in."""
    if theirs is None:
        return None
    theirs = copy.deepcopy(theirs)
    theirs["meta"] = theirs["meta"] or []
    for stage in theirs["stages"]:
        for one in stage["commands"]:
            if one == "error":
                continue
            if "mounts" in one:
                one["mounts"] = [filled(each) for each in one["mounts"]]
    return theirs


def filled(mount: list[Any]) -> list[Any]:
    kind, from_, source, target, read_only, size, id_, sharing, required, env, mode, uid, gid = (
        mount
    )
    if kind == MountType.SECRET:
        id_, source = source or id_ or target.rpartition("/")[2], ""
    elif kind == MountType.SSH:
        id_ = id_ or "default"
    elif kind == MountType.CACHE:
        id_ = id_ or target
    sharing = sharing or Sharing.SHARED
    return [
        kind,
        from_,
        target,
        read_only,
        size,
        id_,
        sharing,
        required,
        env,
        mode,
        uid,
        gid,
        source,
    ]


if __name__ == "__main__":
    document = {"questions": QUESTIONS, "answers": by_buildkit()}
    RECORDED.write_text(json.dumps(document, indent=0, ensure_ascii=False, sort_keys=True) + "\n")
