import json
from pathlib import Path

import pytest

from hakobune.distribution.credentials import CredentialFiles, Credentials, CredentialsError
from hakobune.distribution.login import forget_login, keep_login

CI = Credentials(user="ci", password="s3cret:with colon")


def test_a_login_is_found_again_and_the_rest_of_the_file_stays(tmp_path: Path):
    path = tmp_path / ".docker" / "config.json"
    path.parent.mkdir()
    path.write_text('{"psFormat": "x", "auths": {"other.test": {"auth": "YTpi"}}}')

    assert keep_login(path, {}, "r.test:5000", CI) == str(path)
    assert CredentialFiles((path,), {}).find("r.test:5000", "a") == CI
    assert path.stat().st_mode & 0o777 == 0o600
    assert forget_login(path, {}, "r.test:5000")
    assert not forget_login(path, {}, "r.test:5000")

    assert json.loads(path.read_text()) == {
        "psFormat": "x",
        "auths": {"other.test": {"auth": "YTpi"}},
    }


def test_the_hub_has_the_name_that_docker_gives_it(tmp_path: Path):
    path = tmp_path / "config.json"

    keep_login(path, {}, "docker.io", CI)

    assert list(json.loads(path.read_text())["auths"]) == ["https://index.docker.io/v1/"]
    assert CredentialFiles((path,), {}).find("docker.io", "library/x") == CI


def test_a_store_gets_the_secret_and_the_file_does_not(tmp_path: Path):
    import os

    program = tmp_path / "docker-credential-desk"
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/$1\n")
    program.chmod(0o755)
    path = tmp_path / "config.json"
    path.write_text('{"credsStore": "desk"}')
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}

    assert keep_login(path, env, "r.test", CI) == "docker-credential-desk"
    assert json.loads((tmp_path / "store").read_text()) == {
        "ServerURL": "r.test",
        "Username": "ci",
        "Secret": CI.password,
    }
    assert CI.password not in path.read_text()
    assert forget_login(path, env, "r.test")
    assert (tmp_path / "erase").read_text() == "r.test"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'pass not initialized'", "exit code 1: pass not initialized"),
        ("cat", "exit code 1"),  # what it was given, with the secret
    ],
)
def test_a_store_that_does_not_take_it_is_told_with_its_message_and_no_secret(
    tmp_path: Path, script: str, why: str
):
    program = tmp_path / "docker-credential-bad"
    program.write_text(f"#!/bin/sh\n{script}\nexit 1\n")
    program.chmod(0o755)
    path = tmp_path / "config.json"
    path.write_text('{"credsStore": "bad"}')

    with pytest.raises(CredentialsError, match="docker-credential-bad store failed") as error:
        keep_login(path, {"PATH": f"{tmp_path}:/bin:/usr/bin"}, "r.test", CI)

    assert error.value.why == why
