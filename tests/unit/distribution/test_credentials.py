import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from hakobune.distribution.credentials import (
    ANONYMOUS,
    CredentialFiles,
    Credentials,
    CredentialsError,
)

SECRET = "s3cret"


def auth(user: str = "ci", password: str = SECRET) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def files(
    folder: Path, *documents: object, env: Mapping[str, str] | None = None
) -> CredentialFiles:
    """One file a document, in the order in which they count."""
    paths = []
    for number, document in enumerate(documents):
        paths.append(folder / f"{number}.json")
        paths[-1].write_text(document if isinstance(document, str) else json.dumps(document))
    return CredentialFiles(paths, env or {})


def helper(folder: Path, name: str, script: str) -> Mapping[str, str]:
    """An environment with the program docker-credential-NAME."""
    path = folder / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("r.test", "r.test"),
        ("https://r.test/v2/", "r.test"),
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("r.test:5000", "r.test:5000"),
    ],
)
def test_a_host_is_found_under_the_names_that_files_have(tmp_path: Path, key: str, host: str):
    found = files(tmp_path, {"auths": {key: auth()}}).find(host, "a/b")

    assert found == Credentials(user="ci", password=SECRET)


def test_the_longest_part_of_a_repository_s_name_counts(tmp_path: Path):
    where = files(
        tmp_path,
        {"auths": {"r.test": auth("all"), "r.test/a": auth("a"), "r.test/a/b": auth("ab")}},
    )

    assert where.find("r.test", "a/b").user == "ab"
    assert where.find("r.test", "a/c").user == "a"
    assert where.find("r.test", "x").user == "all"
    assert where.find("other.test", "a/b") == ANONYMOUS


def test_the_first_file_that_knows_the_host_counts(tmp_path: Path):
    where = files(
        tmp_path, {}, {"auths": {"r.test": auth("one")}}, {"auths": {"r.test": auth("two")}}
    )

    assert where.find("r.test", "x").user == "one"


def test_tokens_are_understood(tmp_path: Path):
    where = files(
        tmp_path,
        {"auths": {"a.test": {"identitytoken": "refresh"}, "b.test": {"registrytoken": "bearer"}}},
    )

    assert where.find("a.test", "x") == Credentials(refresh_token="refresh")
    assert where.find("b.test", "x") == Credentials(bearer="bearer")


def test_a_helper_for_the_host_goes_before_all_and_gets_the_host(tmp_path: Path):
    answer = '{"ServerURL":"r.test","Username":"u","Secret":"p"}'
    env = helper(tmp_path, "mine", f"read host; [ \"$host\" = r.test ] && echo '{answer}'")
    where = files(
        tmp_path, {"credHelpers": {"r.test": "mine"}, "auths": {"r.test": auth()}}, env=env
    )

    assert where.find("r.test", "x") == Credentials(user="u", password="p")


def test_a_store_holds_what_the_file_does_not(tmp_path: Path):
    env = helper(
        tmp_path,
        "desk",
        'read host; case $host in r.test) echo \'{"Username":"<token>","Secret":"t"}\';; '
        "*) echo 'credentials not found in native keychain'; exit 1;; esac",
    )
    where = files(tmp_path, {"credsStore": "desk", "auths": {"r.test": {}}}, env=env)

    assert where.find("r.test", "x") == Credentials(refresh_token="t")
    assert where.find("other.test", "x") == ANONYMOUS


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'pass not initialized'; exit 3", "failed with exit code 3: pass not initialized"),
        (f'echo \'{{"Secret":"{SECRET}"}}\'; exit 3', "failed with exit code 3"),
        ("echo nonsense", "gave something that is no credential"),
        (f'echo \'{{"Username":"{SECRET}"}}\'', "gave something that is no credential"),
    ],
)
def test_a_helper_that_does_not_work_is_named_with_its_message_and_no_credential(
    tmp_path: Path, script: str, why: str
):
    env = helper(tmp_path, "bad", script)

    with pytest.raises(CredentialsError) as error:
        files(tmp_path, {"credHelpers": {"r.test": "bad"}}, env=env).find("r.test", "x")

    assert why in error.value.why
    assert SECRET not in str(error.value)
    assert "docker-credential-bad" in error.value.why


def test_a_helper_that_is_not_installed_is_named(tmp_path: Path):
    with pytest.raises(CredentialsError, match=r"cannot get the credentials for r\.test") as error:
        files(tmp_path, {"credHelpers": {"r.test": "absent"}}, env={"PATH": "/bin"}).find(
            "r.test", "x"
        )

    assert "docker-credential-absent, which is not installed" in error.value.why


@pytest.mark.parametrize("document", ["{", {"auths": ["x"]}, {"auths": {"r.test": {"auth": "!"}}}])
def test_a_damaged_file_is_named(tmp_path: Path, document: object):
    with pytest.raises(CredentialsError, match=r"0\.json"):
        files(tmp_path, document).find("r.test", "x")


def test_repr_shows_no_secret():
    shown = repr(Credentials(user="ci", password=SECRET, refresh_token=SECRET, bearer=SECRET))

    assert SECRET not in shown
    assert "ci" in shown


def test_podman_s_files_go_before_docker_s(tmp_path: Path):
    env = {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    for path, user in ((".docker/config.json", "docker"), ("run/containers/auth.json", "podman")):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(json.dumps({"auths": {"r.test": auth(user)}}))

    assert CredentialFiles.of_user(env, uid=1000).find("r.test", "x").user == "podman"
    assert (
        CredentialFiles.of_user({"HOME": str(tmp_path)}, uid=1000).find("r.test", "x").user
        == "docker"
    )
