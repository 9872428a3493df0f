"""From a folder to a URL and what comes after, through the command line and the real ingress."""

from __future__ import annotations

import re
import shutil
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.installation import ROOT, Installation
from tests.e2e.load import Load, ask

pytestmark = pytest.mark.needs_root

PAGE = """\
from flask import Flask

app = Flask(__name__)
TEXT = "{text}"


@app.route("/")
def index():
    return TEXT
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A Flask app in a folder called `shop`."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "requirements.txt").write_text("flask\ngunicorn\n")
    write_page(folder, "first")
    return folder


def write_page(folder: Path, text: str) -> None:
    (folder / "main.py").write_text(PAGE.format(text=text))


def worker_pid(installation: Installation) -> int:
    """The pid of HAProxy's worker process."""
    found = [
        pid
        for pid in installation.pids()
        if (Path("/proc") / str(pid) / "comm").read_text() == "haproxy\n"
    ]
    return max(found)


def test_a_folder_becomes_a_url_that_answers(shared_installation: Installation, tmp_path: Path):
    folder = shutil.copytree(ROOT / "examples" / "python-web", tmp_path / "hello")

    done = shared_installation.hako("deploy", "--source", str(folder))

    url = done.stdout.strip()
    assert done.stdout.count("\n") == 1
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.status == 200
    assert re.search(r"^detect +python .*\d\.\d s$", done.stderr, re.MULTILINE)
    assert re.search(r"^live +hello-00001 gets 100 % +total \d", done.stderr, re.MULTILINE)
    status, _ = shared_installation.get(host="hello.localhost")
    assert status == 200


def test_a_second_deploy_takes_over_without_a_failed_request(
    shared_installation: Installation, shop: Path
):
    shared_installation.deploy(shop)
    write_page(shop, "second")

    with Load(shared_installation.port, "shop.localhost", rate=50) as load:
        time.sleep(1)
        shared_installation.hako("deploy", cwd=shop)
        time.sleep(1)

    assert load.failures() == []
    assert load.bodies() == {b"first", b"second"}
    assert load.answers[-1].body == b"second"


def test_a_revision_that_does_not_become_healthy_leaves_the_old_one_serving(
    shared_installation: Installation, shop: Path
):
    url = shared_installation.deploy(shop, "broken")
    (shop / "main.py").write_text(PAGE.format(text="x") + "\nraise RuntimeError('no database')\n")

    with Load(shared_installation.port, "broken.localhost", rate=20) as load:
        done = shared_installation.hako("deploy", "broken", "--source", str(shop), check=False)

    assert done.returncode == 1
    assert load.failures() == []
    assert load.bodies() == {b"first"}
    assert "broken-00001 keeps 100 %" in done.stderr
    assert "no database" in done.stderr
    assert urllib.request.urlopen(url, timeout=10).read() == b"first"


def test_twenty_deploys_leave_the_ingress_alone(shared_installation: Installation, shop: Path):
    shared_installation.deploy(shop, "often")
    before = worker_pid(shared_installation)

    for number in range(20):
        write_page(shop, f"text {number}")
        shared_installation.hako("deploy", "often", "--source", str(shop))
        answer = ask(shared_installation.port, "often.localhost")
        assert answer.body == f"text {number}".encode()

    assert worker_pid(shared_installation) == before


def test_a_deploy_without_arguments_remembers_service_and_flags(
    shared_installation: Installation, shop: Path
):
    shared_installation.deploy(shop, "kept", "--memory", "256Mi", "--env", "COLOUR=blue")
    write_page(shop, "again")

    done = shared_installation.hako("deploy", cwd=shop)

    assert "kept-00002 gets 100 %" in done.stderr
    described = shared_installation.hako("services", "describe", "kept").stdout
    assert "memory 256Mi" in described
    assert "COLOUR" in described


def test_traffic_can_be_split_tagged_and_rolled_back(shared_installation: Installation, shop: Path):
    shared_installation.deploy(shop, "split")
    write_page(shop, "second")
    shared_installation.deploy(shop, "split")

    shared_installation.hako(
        "services", "update-traffic", "split", "--to-revisions", "split-00001=50,LATEST=50",
        "--set-tags", "old=split-00001",
    )  # fmt: skip

    bodies = {ask(shared_installation.port, "split.localhost").body for _ in range(60)}
    assert bodies == {b"first", b"second"}
    assert ask(shared_installation.port, "old---split.localhost").body == b"first"
    shared_installation.hako("services", "update-traffic", "split", "--to-revisions", "split-00001=100")  # fmt: skip
    assert {ask(shared_installation.port, "split.localhost").body for _ in range(20)} == {b"first"}


def test_a_deleted_service_is_unknown(shared_installation: Installation, shop: Path):
    shared_installation.deploy(shop, "gone")

    shared_installation.hako("services", "delete", "gone")

    answer = ask(shared_installation.port, "gone.localhost")
    assert answer.status == 404
    assert b"no service is called gone.localhost" in answer.body
    assert "gone" not in shared_installation.hako("services", "list").stdout


def test_logs_are_kept_after_the_instance_has_gone(shared_installation: Installation, shop: Path):
    (shop / "main.py").write_text(PAGE.format(text="x") + "\nprint('started well', flush=True)\n")
    shared_installation.deploy(shop, "talks")

    out = shared_installation.hako("logs", "talks").stdout

    assert "talks-00001" in out
    assert "started well" in out
