import json
from pathlib import Path

from hakobune.distribution.credentials import CredentialFiles, Credentials
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
