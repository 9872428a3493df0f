import pytest

from hakobune.iam.errors import (
    BadCredentialsError,
    ConcurrentChangeError,
    InvalidRequestError,
    NameTakenError,
    UnknownResourceError,
    UnsuitedStateError,
)
from hakobune.iam.key_store import KEY_LIMIT
from hakobune.iam.policy import Binding, Policy, make_policy
from hakobune.iam.policy_store import drop_policy
from hakobune.iam.principal import OWNER, registry_agent, service_account, serving_agent, user
from hakobune.iam.roles import PULL
from hakobune.iam.signing_keys import ROTATE_AFTER_S
from hakobune.state.audit import read_audit
from tests.unit.iam.store import Iam, an_iam, run

READER = "roles/artifactregistry.reader"
REPOSITORY = "projects/shop/locations/local/repositories/apps"
BUILDER = "builder@shop.iam.gserviceaccount.com"


def reader(*members: str) -> Policy:
    return make_policy((Binding(READER, members),))


async def an_account(iam: Iam, name: str = "builder"):
    return await iam.store.accounts.create(
        "shop", name, display_name="", description="", actor="owner"
    )


async def may(iam: Iam, principal, resource: str = REPOSITORY) -> bool:
    return (await iam.store.check(principal, PULL, resource)).allowed


async def grant(iam: Iam, resource: str, *members: str, etag: str = "") -> Policy:
    return await iam.store.policies.set(resource, reader(*members), etag=etag, actor="owner")


def test_a_grant_on_a_project_holds_in_its_repositories_and_one_on_a_repository_there_alone(
    tmp_path,
):
    async def main():
        async with an_iam(tmp_path) as iam:
            alice, bob = user("alice@example.com"), user("bob@example.com")
            await grant(iam, "projects/shop", str(alice))
            await grant(iam, REPOSITORY, str(bob))
            other = REPOSITORY + "2"
            return [
                await may(iam, who, where)
                for who in (alice, bob)
                for where in (REPOSITORY, other, "projects/shop", "projects/shop2")
            ]

    assert run(main()) == [True, True, True, False, True, False, False, False]


def test_a_projects_agents_read_it_until_its_policy_says_otherwise(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            agents = (serving_agent("shop"), registry_agent("shop"), serving_agent("other"))
            before = [await may(iam, agent) for agent in agents]
            await grant(iam, REPOSITORY, str(serving_agent("other")))
            granted = [await may(iam, agent) for agent in agents]
            await iam.store.policies.set("projects/shop", Policy(), etag="", actor="owner")
            return before, granted, [await may(iam, agent) for agent in agents]

    assert run(main()) == ([True, True, False], [True, True, True], [False, False, True])


def test_a_policy_is_replaced_under_its_etag(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            first = await iam.store.policies.get(REPOSITORY)
            second = await grant(iam, REPOSITORY, "allUsers", etag=first.etag)
            assert second == await iam.store.policies.get(REPOSITORY)
            with pytest.raises(ConcurrentChangeError):
                await grant(iam, REPOSITORY, etag=first.etag)
            third = await grant(iam, REPOSITORY, etag=second.etag)
            return {first.etag, second.etag, third.etag}

    assert len(run(main())) == 3


def test_what_was_granted_and_taken_away_is_in_the_audit_trail(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, REPOSITORY, "user:alice@example.com", "allUsers")
            await iam.store.policies.set(
                REPOSITORY, reader("allUsers"), etag="", actor="user:alice@example.com"
            )
            await grant(iam, REPOSITORY, "allUsers")
            return await read_audit(iam.store._desk.sql, resource=REPOSITORY)

    rows = run(main())
    assert [(row.actor, row.verb, row.detail) for row in reversed(rows)] == [
        ("owner", "policy.set", f"+{READER} allUsers\n+{READER} user:alice@example.com"),
        ("user:alice@example.com", "policy.set", f"-{READER} user:alice@example.com"),
    ]


@pytest.mark.parametrize(
    ("email", "fix"),
    [
        (BUILDER, "hako iam service-accounts create builder --project shop"),
        ("ci@shop.iam.gserviceaccount.com", "hako iam service-accounts list"),  # too short
    ],
)
def test_a_grant_to_an_account_that_is_not_there_says_how_to_make_it_if_that_is_possible(
    tmp_path, email: str, fix: str
):
    async def main() -> str:
        async with an_iam(tmp_path) as iam:
            with pytest.raises(InvalidRequestError) as error:
                await grant(iam, REPOSITORY, f"serviceAccount:{email}")
            return error.value.fix

    assert run(main()) == fix


def test_a_policy_names_no_account_or_group_that_does_not_exist(tmp_path):
    async def main(member: str) -> str:
        async with an_iam(tmp_path) as iam:
            with pytest.raises(InvalidRequestError) as error:
                await grant(iam, REPOSITORY, member)
            return str(error.value)

    assert f"serviceAccount:{BUILDER} does not exist" in run(main(f"serviceAccount:{BUILDER}"))
    assert "hako identity groups create team@x.org" in run(main("group:team@x.org"))


def test_a_deleted_account_leaves_no_grant_to_its_next_namesake(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await an_account(iam)
            builder = service_account(BUILDER)
            await grant(iam, REPOSITORY, str(builder))
            assert await may(iam, builder)
            await iam.store.accounts.delete(BUILDER, actor="owner")
            await an_account(iam)
            [binding] = (await iam.store.policies.get(REPOSITORY)).bindings
            again = await iam.store.policies.set(
                REPOSITORY, Policy((binding,)), etag="", actor="owner"
            )
            return await may(iam, builder), binding.members, again.bindings[0].members

    allowed, members, kept = run(main())
    assert not allowed
    assert members == kept
    assert members[0].startswith(f"deleted:serviceAccount:{BUILDER}?uid=1")


def test_a_deleted_repository_leaves_no_grant_to_the_next_one_of_its_name(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, REPOSITORY, "allUsers")
            before = iam.generation.value()
            await iam.store._desk.sql.transact(lambda t: drop_policy(t, REPOSITORY))
            assert iam.generation.value() == before  # who deletes the repository tells the caches
            return await may(iam, user("a@b.de"))

    assert run(main()) is False


def test_members_of_groups_in_groups_have_what_the_groups_have(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            groups = iam.store.groups
            for name in ("team@x.org", "all@x.org"):
                await groups.create(name, display_name="", description="", actor="owner")
            await groups.add_member("team@x.org", "Alice@example.com", actor="owner")
            await groups.add_member("all@x.org", "group:team@x.org", actor="owner")
            await grant(iam, REPOSITORY, "group:all@x.org")
            alice = user("alice@example.com")
            inside = await may(iam, alice)
            await groups.remove_member("team@x.org", "alice@example.com", actor="owner")
            outside = await may(iam, alice)
            await groups.add_member("all@x.org", "alice@example.com", actor="owner")
            await groups.delete("all@x.org", actor="owner")
            policy = await iam.store.policies.get(REPOSITORY)
            return inside, outside, await may(iam, alice), policy.bindings

    assert run(main()) == (True, False, False, ())


def test_a_group_is_never_in_itself(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            groups = iam.store.groups
            for name in ("a@x.org", "b@x.org", "c@x.org"):
                await groups.create(name, display_name="", description="", actor="owner")
            await groups.add_member("a@x.org", "b@x.org", actor="owner")
            await groups.add_member("b@x.org", "c@x.org", actor="owner")
            for member in ("a@x.org", "b@x.org"):
                with pytest.raises(InvalidRequestError, match="cannot be in"):
                    await groups.add_member("c@x.org", member, actor="owner")
            with pytest.raises(InvalidRequestError, match="cannot be in"):
                await groups.add_member("a@x.org", "a@x.org", actor="owner")
            return await groups.groups_of("c@x.org")

    assert run(main()) == {"a@x.org", "b@x.org"}


def test_names_are_taken_once_and_unknown_ones_are_said(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await an_account(iam)
            with pytest.raises(NameTakenError):
                await an_account(iam)
            with pytest.raises(UnknownResourceError):
                await iam.store.accounts.get("other1@shop.iam.gserviceaccount.com")
            with pytest.raises(UnknownResourceError):
                await iam.store.groups.members("team@x.org")
            with pytest.raises(UnknownResourceError):
                await iam.store.keys.get(BUILDER, "1")
            with pytest.raises(InvalidRequestError, match="longer than 100"):
                await iam.store.accounts.update(BUILDER, display_name="x" * 101, actor="owner")

    run(main())


def test_accounts_are_listed_in_pages(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            for name in ("ccccccc", "aaaaaaa", "bbbbbbb"):
                await an_account(iam, name)
            first = await iam.store.accounts.list("shop", limit=2)
            rest = await iam.store.accounts.list("shop", limit=2, after=first[-1].email)
            return [account.email[0] for account in (*first, *rest)]

    assert run(main()) == ["a", "b", "c"]


def test_an_account_has_at_most_ten_keys(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            account = await an_account(iam)
            sql = iam.store._desk.sql

            async def fill(transaction):
                for n in range(KEY_LIMIT):
                    await transaction.execute(
                        "INSERT INTO iam_key (id, email, algorithm, public_key, private_digest, disabled, created_at, expires_at) VALUES ($1, $2, '', '', '', 0, 0, 0)",
                        str(n),
                        BUILDER,
                    )

            await sql.transact(fill)
            with pytest.raises(UnsuitedStateError, match="10 keys already"):
                await iam.store.keys.create(
                    account, algorithm="KEY_ALG_RSA_2048", server="http://h", actor="owner"
                )

    run(main())


def test_keys_that_sign_tokens_change_by_themselves_and_old_tokens_stay_valid(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam, an_iam(tmp_path, iam_clock(iam)) as other:
            old, _ = await iam.store.issue_access_token(OWNER, lifetime_s=12 * 3600)
            iam.clock.s += ROTATE_AFTER_S - 3600
            old, _ = await iam.store.issue_access_token(OWNER, lifetime_s=12 * 3600)
            iam.clock.s += 3600
            new, _ = await iam.store.issue_access_token(OWNER)
            tokens = [
                (await process.store.signing_keys.verify(text)).principal
                for process in (iam, other)
                for text in (old, new)
            ]
            signers = await iam.store._desk.sql.fetch("SELECT id FROM iam_signing_key")
            return tokens, len(signers)

    assert run(main()) == ([OWNER] * 4, 2)


def iam_clock(iam: Iam):
    return iam.clock


def test_rotating_leaves_tokens_valid_and_revoking_ends_them_in_every_process(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam, an_iam(tmp_path, iam_clock(iam)) as other:
            text, _ = await iam.store.issue_access_token(OWNER)
            await iam.store.signing_keys.rotate(actor="owner")
            for process in (iam, other):
                assert (await process.authenticator.bearer(text)).principal == OWNER
            await iam.store.signing_keys.rotate(actor="owner", revoke=True)
            for process in (iam, other):
                with pytest.raises(BadCredentialsError):
                    await process.authenticator.bearer(text)
            new, _ = await other.store.issue_access_token(OWNER)
            return (await iam.authenticator.bearer(new)).principal

    assert run(main()) == OWNER


def test_two_processes_that_need_a_first_key_make_one(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam, an_iam(tmp_path, iam_clock(iam)) as other:
            for process in (iam, other):
                await process.store.issue_access_token(OWNER)
            return len(await iam.store._desk.sql.fetch("SELECT id FROM iam_signing_key"))

    assert run(main()) == 1


def test_made_up_key_ids_cost_one_query_a_second(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            text, _ = await iam.store.issue_access_token(OWNER)
            await iam.store.signing_keys.rotate(actor="owner", revoke=True)
            reads = 0
            original = iam.store.signing_keys._read

            async def counted():
                nonlocal reads
                reads += 1
                await original()

            iam.store.signing_keys._read = counted
            for _ in range(50):
                with pytest.raises(BadCredentialsError):
                    await iam.store.signing_keys.verify(text)
            iam.clock.s += 1
            with pytest.raises(BadCredentialsError):
                await iam.store.signing_keys.verify(text)
            return reads

    assert run(main()) == 1


@pytest.mark.parametrize("lifetime", [0, 59, 12 * 3600 + 1, -1])
def test_a_token_lives_a_minute_to_twelve_hours(tmp_path, lifetime):
    async def main():
        async with an_iam(tmp_path) as iam:
            await iam.store.issue_access_token(OWNER, lifetime_s=lifetime)

    with pytest.raises(InvalidRequestError, match="a token cannot live"):
        run(main())


def test_an_account_that_is_disabled_or_gone_gets_no_token(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await an_account(iam)
            await iam.store.accounts.update(BUILDER, disabled=True, actor="owner")
            for email in (BUILDER, "nobody1@shop.iam.gserviceaccount.com"):
                with pytest.raises(UnknownResourceError, match="does not exist, or is disabled"):
                    await iam.store.issue_access_token(service_account(email))
            await iam.store.issue_access_token(serving_agent("shop"))

    run(main())
