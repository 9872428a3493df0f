import io
import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.cli import docker_helper
from hakobune.cli.auth import seconds_of
from hakobune.cli.configure_docker import choose_folder, helper_script, variables_of
from hakobune.cli.docker_helper import NOT_FOUND, host_of, is_ours, logins_path
from hakobune.cli.iam import account_name
from hakobune.cli.iam_policy import with_binding, without_binding
from hakobune.cli.main import Context
from hakobune.distribution.credentials import CredentialsError
from hakobune.distribution.login import name_helper
from hakobune.errors import HakoError, UsageError
from hakobune.settings import Settings

READER, WRITER = "roles/artifactregistry.reader", "roles/artifactregistry.writer"

roles = st.sampled_from([READER, WRITER, "roles/viewer"])
members = st.sampled_from(["user:a@b.de", "user:b@b.de", "allUsers"])
policies = st.dictionaries(roles, st.sets(members, min_size=1)).map(
    lambda table: {
        "etag": "BwX=",
        "bindings": [{"role": r, "members": sorted(m)} for r, m in table.items()],
    }
)


def pairs(policy):
    return {(b["role"], m) for b in policy["bindings"] for m in b["members"]}


@given(policies, roles, members)
def test_a_binding_is_added_once_and_everything_else_stays(policy, role, member):
    changed = with_binding(policy, role, member)

    assert pairs(changed) == pairs(policy) | {(role, member)}
    assert with_binding(changed, role, member) == changed
    assert changed["etag"] == policy["etag"]


@given(policies, roles, members)
def test_a_binding_is_removed_or_said_not_to_be_there(policy, role, member):
    if (role, member) not in pairs(policy):
        with pytest.raises(HakoError, match="does not have"):
            without_binding(policy, role, member)
        return
    changed = without_binding(policy, role, member)

    assert pairs(changed) == pairs(policy) - {(role, member)}
    assert all(binding["members"] for binding in changed["bindings"])
    assert changed["etag"] == policy["etag"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("12h", 43200), ("1h", 3600)]
)
def test_a_lifetime_has_a_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "1d", "-1h", "1.5h", "soon"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UsageError, match="is no time"):
        seconds_of(text)


def test_an_account_is_named_by_its_address():
    assert account_name("a@b.c") == account_name("projects/p/serviceAccounts/a@b.c")
    with pytest.raises(UsageError):
        account_name("builder")


@pytest.mark.parametrize(
    ("path", "writable", "folder"),
    [
        ("/h/.local/bin:/usr/local/bin", ["/h/.local/bin", "/usr/local/bin"], "/h/.local/bin"),
        ("/usr/local/bin:/usr/bin", ["/h/.local/bin", "/usr/local/bin"], "/usr/local/bin"),
        ("/h/.local/bin:/usr/bin", ["/usr/local/bin"], None),
        ("/usr/bin", ["/usr/bin"], None),
    ],
)
def test_the_helper_goes_where_docker_finds_it(path, writable, folder):
    assert choose_folder(path, "/h", writable=writable) == folder


def test_the_helper_program_knows_its_installation(tmp_path):
    program = tmp_path / "helper"
    program.write_text(helper_script("/bin/echo", variables={"HAKO_HOME": "/a b", "X": "1"}))
    program.chmod(0o755)

    done = subprocess.run([program, "get"], capture_output=True, text=True, check=True)

    assert done.stdout.split()[-3:] == ["auth", "docker-helper", "get"]
    assert "HAKO_HOME='/a b' X=1" in program.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "localhost:8080",
        "http://localhost:8080",
        "https://LOCALHOST:8080/v2/",
        "localhost:8080/p/r\n",
    ],
)
def test_a_server_is_known_by_its_host(text):
    assert host_of(text) == "localhost:8080"


class Helper:
    """The credential helper of one user, without a server."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        env = {"HOME": str(home), "HAKO_HOME": str(home / "hako"), "HAKO_LISTEN": "localhost:8080"}
        settings = Settings.from_environment(env, uid=1000)
        self.context = Context(settings=settings, env=env, out=io.StringIO(), err=io.StringIO())
        self._monkeypatch = monkeypatch

    def __call__(self, verb: str, given: str = "") -> tuple[int, str]:
        import argparse

        out = io.StringIO()
        context = Context(settings=self.context.settings, env=self.context.env, out=out, err=out)
        self._monkeypatch.setattr("sys.stdin", io.StringIO(given))
        code = docker_helper._run(argparse.Namespace(verb=verb), context)
        return code, out.getvalue()


def test_logins_are_kept_for_their_user_alone_and_erased(tmp_path, monkeypatch):
    helper = Helper(tmp_path, monkeypatch)
    login = {"ServerURL": "r.test:5000", "Username": "<token>", "Secret": "s"}

    stored = helper("store", json.dumps(login))
    got = json.loads(helper("get", "http://r.test:5000\n")[1])
    mode = stat.S_IMODE(os.stat(logins_path(helper.context)).st_mode)
    erased = helper("erase", "r.test:5000")

    assert stored == erased == (0, "")
    assert got == {**login, "ServerURL": "http://r.test:5000"}
    assert mode == 0o600
    assert helper("get", "r.test:5000") == (1, f"{NOT_FOUND}\n")
    assert helper("erase", "r.test:5000") == (0, "")


def test_without_a_server_or_a_right_to_it_docker_goes_on_as_nobody(tmp_path, monkeypatch):
    assert Helper(tmp_path, monkeypatch)("get", "localhost:8080") == (1, f"{NOT_FOUND}\n")


def test_what_is_no_login_is_refused_without_repeating_it(tmp_path, monkeypatch):
    code, said = Helper(tmp_path, monkeypatch)("store", '{"Secret": "s3cret"}')

    assert code == 1
    assert "s3cret" not in said


def test_a_damaged_file_of_logins_is_said(tmp_path, monkeypatch):
    helper = Helper(tmp_path, monkeypatch)
    path = logins_path(helper.context)
    path.parent.mkdir(parents=True)
    path.write_text("[")

    assert helper("get", "localhost:8080") == (1, f"cannot read {path}\n")


def test_tokens_go_to_our_own_registry_alone(tmp_path, monkeypatch):
    context = Helper(tmp_path, monkeypatch).context

    assert is_ours(context, "localhost:8080")
    assert is_ours(context, "us-docker.pkg.dev")
    assert not is_ours(context, "index.docker.io")
    assert not is_ours(context, "us-docker.pkg.dev.evil.test")
    assert not is_ours(context, "localhost:8081")


def test_a_helper_finds_the_same_installation_again(tmp_path, monkeypatch):
    settings = Helper(tmp_path, monkeypatch).context.settings

    assert Settings.from_environment(variables_of(settings), uid=0) == settings


def test_docker_is_told_whom_to_ask_and_forgets_a_password(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(
        '{"auths": {"localhost:8080": {"auth": "eA=="}, "r.test": {}}, "credHelpers": {"g": "gcloud"}, "x": 1}'
    )

    name_helper(config, ["localhost:8080"], "hako")

    assert json.loads(config.read_text()) == {
        "auths": {"r.test": {}},
        "credHelpers": {"g": "gcloud", "localhost:8080": "hako"},
        "x": 1,
    }
    config.write_text('{"credHelpers": []}')
    with pytest.raises(CredentialsError, match="credHelpers is not an object"):
        name_helper(config, ["x"], "hako")
