"""Going back to what served before, and reading what the builds in between printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.apps import SERVER
from tests.e2e.installation import Installation
from tests.e2e.load import Load, ask

pytestmark = pytest.mark.needs_root


def deploy(installation: Installation, folder: Path, text: str) -> str:
    """Deploy a server that answers *text*; what the command told."""
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(SERVER.format(text=text))
    (folder / "Procfile").write_text("web: python main.py\n")
    return installation.hako("deploy", "--source", str(folder)).stderr


def test_a_rollback_is_one_traffic_write_that_later_deploys_respect(
    shared_installation: Installation, tmp_path: Path
) -> None:
    installation, host = shared_installation, "ledger.localhost"
    deploy(installation, tmp_path / "ledger", "one")
    deploy(installation, tmp_path / "ledger", "two")

    with Load(installation.port, host, rate=50) as load:
        back = installation.hako("rollback", "ledger")

    assert load.failures() == []
    assert ask(installation.port, host).body == b"one"
    assert "ledger-00001 gets 100 %" in back.stderr
    assert "was ledger-00002" in back.stderr
    assert back.stdout.startswith("http://")
    refused = installation.hako("rollback", "ledger", check=False)
    assert refused.returncode == 1
    assert "ledger has no earlier revision to go back to" in refused.stderr

    told = deploy(installation, tmp_path / "ledger", "three")
    assert "hako services update-traffic ledger --to-latest gives ledger-00003 the traffic" in told
    assert ask(installation.port, host).body == b"one"
    installation.hako("services", "update-traffic", "ledger", "--to-latest")
    assert ask(installation.port, host).body == b"three"
    installation.hako("rollback", "ledger", "--to", "ledger-00002")
    assert ask(installation.port, host).body == b"two"


def test_after_a_failed_deploy_traffic_goes_back_without_trying_it_again(
    shared_installation: Installation, tmp_path: Path
) -> None:
    installation, host, folder = shared_installation, "album.localhost", tmp_path / "album"
    deploy(installation, folder, "one")
    deploy(installation, folder, "two")
    (folder / "main.py").write_text("raise SystemExit('no page today')\n")
    assert installation.hako("deploy", "--source", str(folder), check=False).returncode

    back = installation.hako("rollback", "album")

    assert "album-00001 gets 100 %, hako/apps/album@" in back.stderr
    assert ask(installation.port, host).body == b"one"
    assert "album-00004" not in installation.hako("revisions", "list", "album").stdout
    described = installation.hako("services", "describe", "album").stdout
    assert (
        "album-00003 exited with code 1 before it was ready. album-00001 keeps 100 %." in described
    )
    refused = installation.hako("services", "update-traffic", "album", "--to-revisions", "album-00003=100", check=False)  # fmt: skip
    assert "album-00003 cannot serve requests" in refused.stderr
    installation.hako("services", "update-traffic", "album", "--to-latest")
    assert ask(installation.port, host).body == b"two"


def test_services_of_another_project_are_their_own(
    shared_installation: Installation, tmp_path: Path
) -> None:
    installation, folder = shared_installation, tmp_path / "atlas"
    deploy(installation, folder, "ours")
    (folder / "main.py").write_text(SERVER.format(text="theirs"))

    made = installation.hako("deploy", "--source", str(folder), "--project", "team-a")

    here, there = (
        json.loads(installation.hako("services", "list", "--format", "json", *where).stdout)
        for where in ((), ("--project", "team-a"))
    )
    assert [s["name"] for s in there] == ["projects/team-a/locations/local/services/atlas"]
    assert there[0]["name"] not in [s["name"] for s in here]
    assert "hako services describe atlas --project team-a" in made.stderr
    assert ask(installation.port, "atlas.localhost").body == b"ours"
    assert ask(installation.port, "atlas-2.localhost").body == b"theirs"
    installation.hako("services", "delete", "atlas", "--project", "team-a")
    assert ask(installation.port, "atlas.localhost").body == b"ours"


def test_what_a_build_printed_can_be_read_later(
    shared_installation: Installation, tmp_path: Path
) -> None:
    installation, folder = shared_installation, tmp_path / "diary"
    deploy(installation, folder, "one")
    (folder / "project.toml").write_text('[_]\nschema-version = "0.2"\n[[io.buildpacks.group]]\nuri = "bad"\n')  # fmt: skip
    bad = folder / "bad"
    (bad / "bin").mkdir(parents=True)
    (bad / "buildpack.toml").write_text(
        'api = "0.12"\n[buildpack]\nid = "test/bad"\nversion = "1.0.0"\n[[targets]]\nos = "linux"\n'
    )
    for name, text in (("detect", "exit 0"), ("build", "echo about to fail; exit 7")):
        (bad / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (bad / "bin" / name).chmod(0o755)

    failed = installation.hako("deploy", "--source", str(folder), check=False)

    assert failed.returncode == 51
    listed = json.loads(installation.hako("builds", "list", "--format", "json").stdout)
    first, second = [b for b in reversed(listed) if b["image"] == "hako/apps/diary"]
    assert (first["state"], second["state"]) == ("succeeded", "failed")
    assert f"hako builds log {second['number']})" in failed.stderr
    log = installation.hako("builds", "log", str(second["number"])).stdout.splitlines()
    assert "about to fail" in log
    assert log[-1].startswith("error: build failed in buildpack test/bad")
    assert "===> BUILDING" in installation.hako("builds", "log", str(first["number"])).stdout
