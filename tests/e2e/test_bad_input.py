"""What goes wrong for a stranger: one error with what, why and fix on stderr, nothing on stdout, nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.cli.serve import leftovers
from hakobune.settings import Settings
from tests.e2e.installation import HAKO, ROOT, Installation, new_installation, wait_until

pytestmark = pytest.mark.needs_root

PYTHON_WEB = ROOT / "examples/python-web"
SLEEPS = "import time\n\nprint('thinks', flush=True)\ntime.sleep(1000)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which the wrong things lie about."""
    shutil.copytree(PYTHON_WEB, tmp_path / "web")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    shutil.copytree(PYTHON_WEB, tmp_path / "bad-project")
    (tmp_path / "bad-project/project.toml").write_text("[_]\nschema = = 1\n")
    shutil.copytree(PYTHON_WEB, tmp_path / "bad-pyproject")
    (tmp_path / "bad-pyproject/requirements.txt").unlink()
    (tmp_path / "bad-pyproject/pyproject.toml").write_text('[project]\nname = "x\n')
    return tmp_path


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The error of a command that failed as it should; its first lines may be progress."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr[done.stderr.index("error: ") :]


CASES = [
    ("deploy ./nowhere", 2, ["cannot deploy", "there is no such folder", "fix: "]),
    ("deploy --source nowhere", 2, ["cannot deploy", "there is no such folder", "fix: "]),
    ("deploy --source file", 2, ["cannot deploy", "it is a file", "fix: "]),
    ("deploy --source empty", 1, ["nothing to build", "the folder is empty", "fix: "]),
    ("deploy ./bad-project", 1, ["bad-project/project.toml", "line 2", "fix: "]),
    ("deploy ./bad-pyproject", 51, ["pyproject.toml", "line 2", "fix "]),
    ("deploi", 2, ["no command 'deploi'", "fix: hako deploy"]),
    ("--bogus", 2, ["no option '--bogus'", "fix: "]),
    ("deploy --memori 1Gi", 2, ["does not know '--memori'", "fix: --memory"]),
    ("services lst", 2, ["'lst'", "fix: list "]),
    ("deploy web --source web --memory lots", 2, ["--memory 'lots'", "fix: --memory 512Mi"]),
    ("deploy web --source web --memory 1Mi", 2, ["too little", "16Mi is the least", "fix: "]),
    ("deploy web --source web --cpu many", 2, ["--cpu 'many'", "fix: --cpu 1"]),
    ("deploy web --source web --cpu 0", 2, ["--cpu 0", "fix: "]),
    ("deploy web --source web --env =x", 2, ["--env '=x'", "fix: --env NAME=VALUE"]),
    ("deploy web --source web --env PORT=1", 2, ["--env PORT", "fix: --port N"]),
    ("deploy web --source web --env UNSET_HERE", 2, ["not set here", "fix: "]),
    ("deploy web --source web --timeout soon", 2, ["--timeout 'soon'", "fix: --timeout 300s"]),
    ("deploy web --source web --timeout 2h", 2, ["--timeout 7200s", "fix: "]),
    ("deploy web --source web --port 99999", 2, ["--port 99999", "fix: "]),
    ("deploy web --source web --port x", 2, ["invalid int value: 'x'", "fix: "]),
    ("deploy web --source web --startup-probe periodSecond=1", 2, ["fix: periodSeconds=…"]),
    ("deploy Web --source web", 2, ["'Web' cannot be the name of a service", "lower-case"]),
    ("deploy -web --source web", 2, ["does not know '-web'", "fix: "]),
    (f"deploy {'w' * 50} --source web", 2, ["cannot be the name of a service", "at most 49"]),
    ("deploy web --image no/such", 1, ["no image no/such", "fix: `hako image ls`"]),
    ("deploy web --source web --builder no/such", 1, ["no/such", "why: ", "fix: "]),
    ("build", 2, ["needs the image's name", "fix: hako build IMAGE"]),
    ("services describe nobody", 1, ["no service 'nobody'", "fix: `hako services list`"]),
    ("logs nobody", 1, ["no service 'nobody'", "fix: `hako services list`"]),
    ("container run nobody", 125, ["no image nobody", "fix: `hako image ls`"]),
]


@pytest.mark.parametrize(("words", "code", "facts"), CASES, ids=[case[0][:40] for case in CASES])
def test_bad_input_is_told_in_one_error(
    shared_installation: Installation, folder: Path, words: str, code: int, facts: list[str]
) -> None:
    error = refused(shared_installation.hako(*words.split(), cwd=folder, check=False), code)

    for fact in facts:
        assert fact in error


def test_a_port_that_another_program_has_is_named(seed_home: Path, folder: Path) -> None:
    with new_installation(seed_home) as installation:
        with socket.create_server(("127.0.0.1", installation.port)):
            done = installation.hako("deploy", "./web", cwd=folder, check=False)

        error = refused(done, 1)
        assert error.startswith(f"error: cannot listen on localhost:{installation.port}\n")
        assert "why: another program does" in error
        assert "fix: end it, or choose another address: HAKO_LISTEN=" in error
        wait_until(
            lambda: installation.hako("deploy", "./web", cwd=folder, check=False).returncode == 0,
            what="a deploy after the port is free",
        )


def test_service_ports_that_are_taken_are_passed_over(seed_home: Path, folder: Path) -> None:
    with new_installation(seed_home) as installation:
        with socket.create_server(("127.0.0.1", installation.port + 1)):
            url = installation.deploy(folder / "web")

        assert url != f"http://localhost:{installation.port + 1}"
        status, _ = installation.get(host="web.localhost")
        assert status == 200


def in_private_mounts(
    installation: Installation, script: str, *arguments: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run a shell script in a mount namespace of its own, with the installation's environment."""
    command = ["unshare", "--mount", "sh", "-euc", script, "sh", *arguments]
    return subprocess.run(
        command, env=installation.env, cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_without_haproxy_the_package_is_named(seed_home: Path, folder: Path) -> None:
    with new_installation(seed_home) as installation:
        hide = f'mount --bind /dev/null "$1"; {HAKO} deploy ./web'
        found = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
        assert found

        done = in_private_mounts(installation, hide, found, cwd=folder)

        error = refused(done, 1)
        assert "error: haproxy is not installed" in error
        assert "fix: apt-get install haproxy" in error


def test_who_is_not_root_is_told_what_an_administrator_runs() -> None:
    home = Path("/var/tmp") / f"hk-nobody-{os.getpid()}"
    env = {**os.environ, "HAKO_HOME": str(home), "HAKO_LISTEN": "localhost:31999"}
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*as_nobody, HAKO, *words], env=env, cwd="/", capture_output=True, text=True, timeout=60
        )

    try:
        assert "`sudo hako serve`" in refused(run("deploy", str(PYTHON_WEB)), 1)
        doctor = run("doctor")
        assert doctor.returncode == 1
        assert "sudo hako doctor" in doctor.stdout + doctor.stderr
        assert not home.exists()
        assert "sudo " in refused(run("build", "web", "--path", str(PYTHON_WEB)), 1)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_full_disk_is_named_and_half_an_image_is_not_kept(
    shared_installation: Installation, seed_home: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "seed.tar"
    shared_installation.hako("image", "save", "hako/apps/seed", "-o", str(archive))
    with new_installation() as installation:
        script = (
            'mount -t tmpfs -o size=20m tmpfs "$HAKO_HOME"; '
            f'{HAKO} image load -i "$1" && exit 99; code=$?; '
            'echo "free $(df --output=pcent "$HAKO_HOME" | tail -1)" >&2; '
            f"{HAKO} image ls >&2 || exit 98; exit $code"
        )

        done = in_private_mounts(installation, script, str(archive), cwd=tmp_path)

        error = refused(done, 1)
        assert "No space left on device" in error or "full" in error
        assert re.search(r"free +\d%", done.stderr), f"what was begun is there: {done.stderr}"
        assert "hako/apps/seed" not in done.stderr


def cut_short(installation: Installation, folder: Path, *words: str, when: str) -> tuple[int, str]:
    """Send SIGINT to a deploy's process group once its output or its log says *when*."""
    process = installation.start("deploy", *words, cwd=folder)
    try:
        assert process.stderr
        seen = ""
        while when not in seen:
            line = process.stderr.readline()
            assert line, f"it ended before it said {when!r}: {seen}"
            seen += line
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        out, rest = process.communicate(timeout=60)
        assert out == ""
        return process.returncode, seen + rest
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def own(seed_home: Path) -> Iterator[Installation]:
    with new_installation(seed_home) as installation:
        yield installation


def test_ctrl_c_while_a_revision_starts_takes_it_back(own: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "Procfile").write_text("web: python main.py\n")
    (folder / "main.py").write_text(SLEEPS)

    code, said = cut_short(own, tmp_path, "./slow", when="image ")

    assert code == 130
    assert "cancelled: nothing serves yet" in said
    wait_until(lambda: "slow-00001" not in _running(own), what="the instance's end")
    shutil.copy(PYTHON_WEB / "main.py", folder)
    shutil.copy(PYTHON_WEB / "requirements.txt", folder)
    (folder / "Procfile").unlink()
    own.deploy(folder)
    status, _ = own.get(host="slow.localhost")
    assert status == 200
    own.hako("serve", "--stop")
    assert leftovers(Settings.from_environment(own.env, uid=0)) == ()


def test_ctrl_c_while_a_build_runs_leaves_nothing(own: Installation, tmp_path: Path) -> None:
    own.hako("serve")
    before = _mounts(own)
    folder = tmp_path / "halts"
    shutil.copytree(PYTHON_WEB, folder)
    buildpack = tmp_path / "buildpack"
    (buildpack / "bin").mkdir(parents=True)
    (buildpack / "buildpack.toml").write_text(
        'api = "0.12"\n[buildpack]\nid = "test/halts"\nversion = "1.0.0"\n'
    )
    for name, text in (("detect", "exit 0"), ("build", "echo begins; sleep 4321")):
        (buildpack / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (buildpack / "bin" / name).chmod(0o755)

    code, said = cut_short(
        own, tmp_path, "./halts", "-v", "--buildpack", str(buildpack), when="begins"
    )

    assert code == 130, said
    assert not _processes_with("4321")
    assert _mounts(own) == before
    assert "halts" not in own.hako("services", "list").stdout
    own.deploy(folder)


def _running(installation: Installation) -> str:
    return installation.hako("container", "ls").stdout


def _mounts(installation: Installation) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if str(installation.home) in line]


def _processes_with(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[:2] == [b"sleep", word.encode()]:
                found.append(entry.name)
    return found
