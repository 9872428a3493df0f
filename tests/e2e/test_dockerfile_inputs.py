"""What a caller lends to a Dockerfile's build: an ssh agent, and contexts by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hakobune.oci.base_layer import write_base_layer
from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.dockerfile_world import BASE, OLD, fill
from tests.e2e.installation import Installation
from tests.small_root import PROGRAMS, make_small_root

pytestmark = pytest.mark.needs_root


@pytest.fixture(scope="module")
def world(world: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """With an image that has `ssh-add`, too."""
    with Store(world.home) as store:
        _make_ssh_image(store, tmp_path_factory.mktemp("ssh"))
    return world


def _make_ssh_image(store: Store, folder: Path) -> None:
    root = make_small_root(folder / "root", programs=(*PROGRAMS, "ssh-add", "test"))
    host = Platform.host()
    config = ContainerConfig(env=("PATH=/bin",), cmd=("/bin/sh",))
    store.publish_image(
        config=ImageConfig(
            os=host.os, architecture=host.architecture, config=config, rootfs=RootFs()
        ),
        layers=[write_base_layer(store, root, latest_mtime=OLD)],
        names=[Reference.parse("with-ssh")],
    )


def build(
    world: Installation, folder: Path, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return world.hako("dockerfile", "build", *arguments, str(folder), check=False, cwd=cwd)


def said(world: Installation, image: str, *command: str) -> str:
    return world.hako("container", "run", "--rm", image, *command).stdout


# An ssh agent


@contextmanager
def ssh_agent() -> Iterator[tuple[Path, str]]:
    """An agent with one key; its socket, and the key's fingerprint."""
    folder = Path(tempfile.mkdtemp(prefix="hk-ssh-", dir="/tmp"))
    socket = folder / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True
        )
        while not socket.exists():
            time.sleep(0.01)
        env = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", folder / "key"], check=True, env=env)
        listed = subprocess.run(["ssh-add", "-l"], env=env, capture_output=True, text=True)
        yield socket, listed.stdout.split()[1]
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)


needs_agent = pytest.mark.skipif(shutil.which("ssh-agent") is None, reason="no ssh-agent here")


@needs_agent
def test_a_run_may_ask_the_agent_and_not_change_it(world: Installation, tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "Dockerfile": "FROM with-ssh\n"
            "RUN --mount=type=ssh ssh-add -l >/keys; ssh-add -D >>/keys 2>&1; echo $? >>/keys; "
            "stat -c '%a %u:%g' $SSH_AUTH_SOCK >>/keys; echo $SSH_AUTH_SOCK >>/keys\n"
            "RUN --mount=type=ssh,id=other,uid=1002,mode=0640,target=/tmp/a stat -c '%a %u:%g' /tmp/a >/other\n"
            "RUN echo ${SSH_AUTH_SOCK:-none} >/after; ls -A /run >>/after 2>&1; true\n"
        },
    )
    with ssh_agent() as (socket, fingerprint):
        world.extra_env["SSH_AUTH_SOCK"] = str(socket)
        try:
            done = build(
                world, tmp_path, "-t", "asked", "--ssh", "default", "--ssh", f"other={socket}"
            )
        finally:
            del world.extra_env["SSH_AUTH_SOCK"]
        left = subprocess.run(
            ["ssh-add", "-l"], env={**os.environ, "SSH_AUTH_SOCK": str(socket)}, capture_output=True, text=True
        )  # fmt: skip

    assert done.returncode == 0, done.stderr
    keys = said(world, "asked", "cat", "/keys").splitlines()
    assert fingerprint in keys[0]
    assert keys[-3:] == ["1", "600 0:0", "/run/buildkit/ssh_agent.0"]
    assert fingerprint in left.stdout
    assert said(world, "asked", "cat", "/other") == "640 1002:0\n"
    assert said(world, "asked", "cat", "/after").splitlines()[0] == "none"
    assert "ssh_agent" not in said(world, "asked", "cat", "/after")


def test_without_an_agent_a_run_gets_none_unless_it_is_required(
    world: Installation, tmp_path: Path
) -> None:
    text = (
        "FROM with-ssh\nRUN --mount=type=ssh echo $SSH_AUTH_SOCK >/said; test ! -e $SSH_AUTH_SOCK\n"
    )
    fill(
        tmp_path,
        {"Dockerfile": text, "required": text.replace("ssh echo", "ssh,required echo again")},
    )

    optional = build(world, tmp_path, "-t", "unasked")
    required = build(world, tmp_path, "-f", str(tmp_path / "required"))
    unset = build(world, tmp_path, "--ssh", "default")
    file = build(world, tmp_path, "--ssh", f"default={tmp_path}/required")

    assert optional.returncode == 0, optional.stderr
    assert said(world, "unasked", "cat", "/said") == "/run/buildkit/ssh_agent.0\n"
    assert "required:2: the ssh agent 'default' is not given to this build" in required.stderr
    assert "SSH_AUTH_SOCK is not set" in unset.stderr
    assert "is no private key in OpenSSH's form or PEM" in file.stderr


def make_key(path: Path, *arguments: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", path, *arguments], check=True)
    return path


@needs_agent
def test_keys_in_files_sign_for_a_run_and_are_nowhere_else(
    world: Installation, tmp_path: Path
) -> None:
    keys = [
        make_key(tmp_path / "ed25519", "-t", "ed25519"),
        make_key(tmp_path / "rsa", "-t", "rsa", "-b", "2048"),
        make_key(tmp_path / "ecdsa", "-t", "ecdsa", "-m", "PEM"),
    ]
    public = " ".join(f"/public/{key.name}.pub" for key in keys)
    fill(
        tmp_path / "context",
        {
            "Dockerfile": "FROM with-ssh\nCOPY *.pub /public/\n"
            f"RUN --mount=type=ssh ssh-add -l >/keys; ssh-add -T {public} 2>&1; ssh-add -D; echo $? >>/keys\n"
        },
    )
    for key in keys:
        shutil.copy(f"{key}.pub", tmp_path / "context")

    done = build(
        world, tmp_path / "context", "-t", "keys", "--no-cache",
        "--ssh", "default=" + ",".join(map(str, keys)),
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    *listed, refused = said(world, "keys", "cat", "/keys").splitlines()
    prints = [
        subprocess.run(["ssh-keygen", "-l", "-f", key], capture_output=True, text=True).stdout
        for key in keys
    ]
    assert [line.split()[1] for line in listed] == [line.split()[1] for line in prints]
    assert refused == "1"  # ssh-add -D
    assert "Cannot verify" not in done.stderr
    assert "failed" not in done.stderr
    for key in keys:
        secret = key.read_text().splitlines()[2].encode()
        assert secret not in done.stderr.encode()
        found = subprocess.run(["grep", "-rqF", secret, world.home], capture_output=True)
        assert found.returncode == 1


@needs_agent
def test_keys_that_cannot_be_used_are_refused_before_the_build(
    world: Installation, tmp_path: Path
) -> None:
    locked = make_key(tmp_path / "locked", "-t", "ed25519")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "words", "-P", "", "-f", locked], check=True)
    fill(tmp_path, {"Dockerfile": "FROM with-ssh\n"})

    with ssh_agent() as (socket, _):
        refused = [
            build(world, tmp_path, "--ssh", f"default={locked}"),
            build(world, tmp_path, "--ssh", f"default={socket},{locked}"),
            build(world, tmp_path, "--ssh", f"a={socket}", "--ssh", f"a={socket}"),
        ]

    assert [done.returncode for done in refused] == [2, 2, 2]
    assert f'eval "$(ssh-agent)" && ssh-add {locked}; then --ssh default' in refused[0].stderr
    assert "an id is one agent or keys" in refused[1].stderr
    assert "--ssh a is given twice" in refused[2].stderr


@needs_agent
def test_another_agent_is_no_reason_to_run_a_step_again(
    world: Installation, tmp_path: Path
) -> None:
    fill(tmp_path, {"Dockerfile": "FROM with-ssh\nRUN --mount=type=ssh ssh-add -l >/keys\n"})
    for expected in ("DONE", "CACHED"):
        with ssh_agent() as (socket, _):
            done = build(world, tmp_path, "--ssh", f"default={socket}")
        assert expected in done.stderr


# Contexts by name


def test_a_folder_by_name_is_read_by_copy_mounts_and_from(
    world: Installation, tmp_path: Path
) -> None:
    fill(
        tmp_path,
        {
            "main/Dockerfile": f"FROM {BASE} AS work\n"
            "COPY --from=lib a sub/ /lib-of/\n"
            "RUN --mount=from=lib,target=/m cat /m/a >/mounted; ls -A /m >>/mounted\n"
            "FROM lib AS bare\n"
            "FROM work\n"
            "COPY --from=bare /sub/b /bare\n",
            "lib/a": "A\n",
            "lib/sub/b": "B\n",
            "lib/left-out": "no\n",
            "lib/.dockerignore": "left-out\n",
            "lib/Dockerfile.dockerignore": "a\n",
        },
    )

    first = build(world, Path("main"), "-t", "named", "--build-context", "lib=lib", cwd=tmp_path)
    again = build(world, Path("main"), "--build-context", "lib=lib", cwd=tmp_path)
    (tmp_path / "lib/a").write_text("changed\n")
    changed = build(world, Path("main"), "--build-context", "lib=lib", cwd=tmp_path)
    without = build(world, Path("main"), "--no-pull", cwd=tmp_path)

    assert first.returncode == 0, first.stderr
    shown = said(world, "named", "sh", "-c", "cat /lib-of/a /lib-of/b /mounted /bare")
    assert shown.splitlines() == [
        *("A", "B", "A"),
        *(".dockerignore", "Dockerfile.dockerignore", "a", "sub"),
        "B",
    ]
    assert "DONE" not in again.stderr
    assert "DONE" in changed.stderr
    assert "Dockerfile:" in without.stderr
    assert without.returncode == 1


def test_an_image_stands_for_another_image_or_a_stage(world: Installation, tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            "other/Dockerfile": f"FROM {BASE}\nENV OTHER=yes\nRUN echo other >/who\n",
            "Dockerfile": "FROM docker.io/library/debian:latest\nRUN cat /who >/seen; echo $OTHER >>/seen\n",
            "staged": f"FROM {BASE} AS made\nRUN exit 1\nFROM {BASE}\nCOPY --from=made /who /seen\n",
        },
    )
    layout = tmp_path / "layout"
    assert build(world, tmp_path / "other", "-t", "other:1").returncode == 0
    world.hako("image", "save", "other:1", "--format", "oci-dir", "-o", str(layout))
    digest = world.hako("image", "inspect", "other:1", "--format", "json").stdout

    image = build(
        world, tmp_path, "-t", "by-image", "--build-context", "debian=docker-image://other:1"
    )
    stage = build(
        world, tmp_path, "-t", "by-stage", "-f", str(tmp_path / "staged"),
        "--build-context", f"made=oci-layout://{layout}",
    )  # fmt: skip
    tag = build(world, tmp_path, "--build-context", f"debian=oci-layout://{layout}:nope")

    assert digest
    assert image.returncode == 0, image.stderr
    assert said(world, "by-image", "cat", "/seen") == "other\nyes\n"
    assert stage.returncode == 0, stage.stderr
    assert said(world, "by-stage", "cat", "/seen") == "other\n"
    assert "has no image nope" in tag.stderr


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("lib=nowhere", "the build context nowhere is no folder"),
        ("lib", "--build-context lib cannot be understood"),
        ("lib=https://x.test/a.git?brunch=x", "did you mean branch?"),
        ("lib=ftp://x.test/a.git", "ftp:// is not understood"),
        ("lib=oci-layout://nowhere", "is no OCI layout"),
    ],
)
def test_a_context_that_is_none_is_refused(
    world: Installation, tmp_path: Path, value: str, why: str
) -> None:
    fill(tmp_path, {"Dockerfile": "FROM scratch\nCOPY --from=lib / /\n"})

    done = build(world, tmp_path, "--build-context", value)

    assert done.returncode == 2
    assert why in done.stderr
