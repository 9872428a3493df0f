import pytest

from hakobune.api.errors import ANSWERS, PermissionDeniedError, UnauthenticatedError
from hakobune.api.guard import check_call, load_token
from hakobune.serving import errors as serving_errors

HOSTS = {"localhost", "127.0.0.1", "::1"}


def call(**headers):
    check_call({"host": "localhost:8080", **headers}, hosts=HOSTS, token="t0k")


def test_a_call_with_the_token_passes():
    call(authorization="Bearer t0k")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "LOCALHOST"])
def test_each_of_our_names_is_ours(host):
    call(host=host, authorization="Bearer t0k")


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic t0k"])
def test_a_call_without_the_right_token_is_refused(authorization):
    with pytest.raises(UnauthenticatedError):
        call(authorization=authorization)


def test_a_rebound_host_name_is_refused_even_with_the_token():
    with pytest.raises(PermissionDeniedError, match=r"evil\.test"):
        call(host="evil.test:8080", authorization="Bearer t0k")


def test_a_foreign_page_is_refused_even_with_the_token():
    with pytest.raises(PermissionDeniedError, match=r"https://evil\.test"):
        call(origin="https://evil.test", authorization="Bearer t0k")


def test_our_own_page_may_call():
    call(origin="http://localhost:8080", authorization="Bearer t0k")


def test_the_token_is_made_once_and_readable_by_its_owner_alone(tmp_path):
    path = tmp_path / "serving" / "admin.token"

    token = load_token(path)

    assert load_token(path) == token
    assert len(token) > 40
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_serving_error_has_an_answer():
    kinds = [
        kind
        for kind in vars(serving_errors).values()
        if isinstance(kind, type) and issubclass(kind, serving_errors.ServingError)
    ]

    assert {kind.status for kind in kinds} <= ANSWERS.keys()
