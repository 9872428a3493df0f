import asyncio

import pytest

from hakobune.api.errors import PermissionDeniedError, UnauthenticatedError
from hakobune.api.guard import authenticate, check_origin
from hakobune.iam.principal import OWNER, user
from tests.unit.iam.store import OWNER_TOKEN, an_iam, run

HOSTS = {"localhost", "127.0.0.1", "::1"}


def call(**headers):
    check_origin({"host": "localhost:8080", **headers}, hosts=HOSTS)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "LOCALHOST"])
def test_each_of_our_names_is_ours(host):
    call(host=host)


def test_a_rebound_host_name_is_refused():
    with pytest.raises(PermissionDeniedError, match=r"evil\.test"):
        call(host="evil.test:8080")


def test_a_foreign_page_is_refused():
    with pytest.raises(PermissionDeniedError, match=r"https://evil\.test"):
        call(origin="https://evil.test")


def test_our_own_page_may_call():
    call(origin="http://localhost:8080")


def test_the_installations_token_is_the_owner(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            return await authenticate(f"Bearer {OWNER_TOKEN}", iam.authenticator)

    assert run(main()) == OWNER


def test_an_access_token_is_its_principal(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            token, _ = await iam.store.issue_access_token(user("alice@example.com"))
            return await authenticate(f"Bearer {token}", iam.authenticator)

    assert run(main()) == user("alice@example.com")


def test_a_token_for_the_registry_is_refused(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            token = await iam.store.issue_registry_token(
                user("alice@example.com"), (), audience="x", expires_at=int(iam.clock.s) + 60
            )
            await authenticate(f"Bearer {token}", iam.authenticator)

    with pytest.raises(UnauthenticatedError, match="registry only"):
        run(main())


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer wrong", f"Basic {OWNER_TOKEN}", "Bearer hako-no"]
)
def test_a_call_without_a_right_token_is_refused_and_the_token_not_repeated(
    tmp_path, authorization
):
    async def main():
        async with an_iam(tmp_path) as iam:
            await authenticate(authorization, iam.authenticator)

    with pytest.raises(UnauthenticatedError) as error:
        asyncio.run(main())
    assert "wrong" not in str(error.value)
