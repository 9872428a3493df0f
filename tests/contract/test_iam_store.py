"""What IAM promises, the same on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hakobune.iam.errors import BadCredentialsError, ConcurrentChangeError
from hakobune.iam.policy import Binding, make_policy
from hakobune.iam.principal import OWNER, service_account, user
from hakobune.iam.roles import PULL
from hakobune.iam.signing_keys import LONGEST_TOKEN_S, ROTATE_AFTER_S
from hakobune.state.audit import read_audit
from tests.postgresql_cluster import Cluster
from tests.unit.iam.store import Iam, an_iam

Test = Callable[[Iam, Iam], Awaitable[None]]
Run = Callable[[Test], None]

READER = "roles/artifactregistry.reader"
PROJECT = "projects/shop"
REPOSITORY = f"{PROJECT}/locations/local/repositories/apps"
BUILDER = "builder@shop.iam.gserviceaccount.com"


@pytest.fixture(params=["sqlite", "postgresql"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run a test with two processes' views of one database."""
    url = ""
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("cluster")
        url = cluster.new_database(request.getfixturevalue("template"))

    def run(test: Test) -> None:
        async def whole() -> None:
            async with an_iam(tmp_path, url=url) as one, an_iam(tmp_path, one.clock, url=url) as other:  # fmt: skip
                await test(one, other)

        asyncio.run(whole())

    return run


async def an_account(iam: Iam, name: str = "builder") -> None:
    await iam.store.accounts.create("shop", name, display_name="", description="", actor="owner")


async def may(iam: Iam, email: str) -> bool:
    account = email.endswith("gserviceaccount.com")
    principal = service_account(email) if account else user(email)
    return (await iam.store.check(principal, PULL, REPOSITORY)).allowed


def test_of_two_changes_of_one_policy_one_is_aborted(run: Run) -> None:
    async def test(one: Iam, other: Iam) -> None:
        etag = (await one.store.policies.get(REPOSITORY)).etag
        outcomes = await asyncio.gather(
            *(
                iam.store.policies.set(
                    REPOSITORY,
                    make_policy((Binding(READER, (f"user:u{n}@example.com",)),)),
                    etag=etag,
                    actor="owner",
                )
                for n, iam in enumerate((one, other, one, other))
            ),
            return_exceptions=True,
        )

        assert sum(isinstance(o, ConcurrentChangeError) for o in outcomes) == 3
        allowed = [await may(iam, f"u{n}@example.com") for n in range(4) for iam in (one, other)]
        assert sum(allowed) == 2
        rows = await read_audit(one.store._desk.sql, resource=REPOSITORY)
        assert [row.verb for row in rows] == ["policy.set"]

    run(test)


def test_every_change_of_rights_has_a_revision_of_its_own(run: Run) -> None:
    async def test(one: Iam, other: Iam) -> None:
        seen = [await one.store.refresh()]
        await an_account(one)
        seen.append(await other.store.refresh())
        await asyncio.gather(*(an_account(iam, f"account{n}") for n in range(4) for iam in (one,)))
        seen.append(await other.store.refresh())

        assert seen[1] == seen[0] + 1
        assert seen[2] == seen[1] + 4

    run(test)


def test_accounts_and_members_are_sorted_by_bytes(run: Run) -> None:
    async def test(one: Iam, _: Iam) -> None:
        for name in ("ab-cdef", "abcdefg", "ab0cdef"):
            await an_account(one, name)
        groups = one.store.groups
        await groups.create("team@x.org", display_name="", description="", actor="owner")
        for member in ("b@x.org", "a-b@x.org", "ab@x.org"):
            await groups.add_member("team@x.org", member, actor="owner")

        listed = await one.store.accounts.list("shop", limit=10)
        assert [account.email for account in listed] == sorted(a.email for a in listed)
        assert await groups.members("team@x.org") == ("a-b@x.org", "ab@x.org", "b@x.org")
        after = await one.store.accounts.list("shop", limit=1, after=listed[0].email)
        assert after == listed[1:2]

    run(test)


def test_rights_by_groups_end_with_the_membership_the_account_and_the_group(run: Run) -> None:
    async def test(one: Iam, other: Iam) -> None:
        groups = one.store.groups
        await an_account(one)
        for name in ("inner@x.org", "outer@x.org"):
            await groups.create(name, display_name="", description="", actor="owner")
        await groups.add_member("outer@x.org", "inner@x.org", actor="owner")
        await groups.add_member("inner@x.org", BUILDER, actor="owner")
        policy = make_policy((Binding(READER, ("group:outer@x.org",)),))
        await one.store.policies.set(PROJECT, policy, etag="", actor="owner")
        assert await may(other, BUILDER)

        await one.store.accounts.delete(BUILDER, actor="owner")
        assert not await may(other, BUILDER)
        assert await groups.members("inner@x.org") == ()

        await groups.add_member("inner@x.org", "alice@example.com", actor="owner")
        assert await may(other, "alice@example.com")
        await groups.delete("outer@x.org", actor="owner")
        assert not await may(other, "alice@example.com")

    run(test)


def test_a_key_is_made_found_and_deleted_with_its_logins(run: Run) -> None:
    async def test(one: Iam, other: Iam) -> None:
        await an_account(one)
        account = await one.store.accounts.get(BUILDER)
        made = await one.store.keys.create(
            account, algorithm="KEY_ALG_RSA_2048", server="http://h", actor="owner"
        )
        key_id = made["name"].rpartition("/")[2]
        login = await one.store.logins.create(service_account(BUILDER), key_id)
        assert await other.store.logins.use(login) == (service_account(BUILDER), key_id)
        one.clock.s += 2 * 24 * 3600
        assert (await other.authenticator.login(login)).principal == service_account(BUILDER)

        await one.store.keys.delete(BUILDER, key_id, actor="owner")
        with pytest.raises(BadCredentialsError):
            await other.store.logins.use(login)
        assert await other.store.keys.list(BUILDER) == ()

    run(test)


def test_processes_that_need_a_key_at_once_sign_with_one_and_old_ones_go_in_time(run: Run) -> None:
    async def test(one: Iam, other: Iam) -> None:
        def issue(iam: Iam) -> Awaitable[tuple[str, int]]:
            return iam.store.issue_access_token(OWNER)

        tokens = await asyncio.gather(issue(one), issue(other), issue(one), issue(other))
        for text, _ in tokens:
            for iam in (one, other):
                assert (await iam.store.signing_keys.verify(text)).principal == OWNER
        sql = one.store._desk.sql
        count = "SELECT COUNT(*) FROM iam_signing_key"
        assert await sql.fetch_row(count) == (1,)

        for _ in range(3):
            one.clock.s += ROTATE_AFTER_S + LONGEST_TOKEN_S
            await asyncio.gather(issue(one), issue(other))
        # The one that signs, the one before; what that one's predecessor signed expired a month ago.
        assert await sql.fetch_row(count) == (2,)

    run(test)
