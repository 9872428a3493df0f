import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakobune.iam.policy import Binding, Policy, make_policy
from hakobune.iam.principal import ANONYMOUS, OWNER, user
from hakobune.iam.roles import CREATE_ON_PUSH, DELETE, PULL, PUSH
from hakobune.iam.token import Access
from hakobune.registry.authorize import Decision, Outcome, challenge, safe_host, scope_of
from hakobune.registry.peer import Peer
from hakobune.registry.repository import Repository
from tests.unit.iam.store import OWNER_TOKEN, Iam, an_iam, run

REPOSITORY = Repository(id=1, project="shop", location="local", name="apps")
NAME = "shop/apps/web"
CLIENT = Peer(False, "10.0.0.1")
LOCAL_OWNER = Peer(True, "uid:0")
ALICE = user("alice@example.com")
READER, WRITER = "roles/artifactregistry.reader", "roles/artifactregistry.writer"


async def grant(iam: Iam, role: str, *members: str, resource: str = REPOSITORY.resource) -> None:
    policy = make_policy((Binding(role, members),))
    await iam.store.policies.set(resource, policy, etag="", actor="owner")


async def bearer(iam: Iam, principal=ALICE, **more) -> str:
    return f"Bearer {(await iam.store.issue_access_token(principal, **more))[0]}"


async def registry_bearer(iam: Iam, *actions: str, name: str = NAME, principal=ALICE) -> str:
    access = (Access("repository", name, actions),) if actions else ()
    token = await iam.store.issue_registry_token(
        principal, access, audience="x", expires_at=int(iam.clock.s) + 300
    )
    return f"Bearer {token}"


def basic(user_name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user_name}:{password}".encode()).decode()


async def ask(
    iam: Iam, authorization: str | None, permission: str = PULL, *,
    peer: Peer = CLIENT, repository: Repository | None = REPOSITORY, name: str = NAME,
) -> Decision:  # fmt: skip
    return await iam.authorizer.decide(authorization, peer, permission, repository, name)


def test_the_owners_socket_needs_no_credentials_and_may_everything(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            return [
                await ask(iam, None, permission, peer=LOCAL_OWNER, repository=repository)
                for permission in (PULL, PUSH, DELETE, CREATE_ON_PUSH)
                for repository in (REPOSITORY, None)
            ]

    assert all(d.allowed and d.principal == OWNER for d in run(main()))


def test_credentials_on_the_owners_socket_count(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            return await ask(iam, await bearer(iam), PUSH, peer=LOCAL_OWNER)

    assert run(main()).outcome is Outcome.DENIED


def test_over_tcp_the_owner_has_a_token(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            return [
                await ask(iam, authorization, CREATE_ON_PUSH, repository=None)
                for authorization in (
                    f"Bearer {OWNER_TOKEN}",
                    basic("oauth2accesstoken", OWNER_TOKEN),
                    await bearer(iam, OWNER),
                )
            ]

    assert [d.principal for d in run(main()) if d.allowed] == [OWNER] * 3


def test_nobody_is_asked_who_it_is_and_somebody_is_refused(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            return await ask(iam, None), await ask(iam, await bearer(iam))

    nobody, somebody = run(main())
    assert (nobody.outcome, nobody.error) == (Outcome.CHALLENGE, "")
    assert somebody.outcome is Outcome.DENIED
    assert somebody.principal == ALICE


def test_a_refusal_tells_nothing_about_what_is_there(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            return [
                (await ask(iam, authorization, permission, repository=repository)).reason
                for authorization in (None, await bearer(iam))
                for permission in (PULL, PUSH)
                for repository in (REPOSITORY, None)
            ]

    reasons = run(main())
    assert reasons[0::2] == reasons[1::2]
    assert all('on repository "shop/apps" (or it may not exist)' in r for r in reasons)
    assert not any("local" in reason for reason in reasons)


def test_what_everybody_may_needs_no_token(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, "allUsers")
            return await ask(iam, None), await ask(iam, None, PUSH)

    pull, push = run(main())
    assert pull.allowed
    assert push.outcome is Outcome.CHALLENGE


def test_a_registry_token_bounds_what_its_principal_may(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, WRITER, str(ALICE))
            token = await registry_bearer(iam, "pull")
            return [
                await ask(iam, token),
                await ask(iam, token, PUSH),
                await ask(iam, token, name="shop/apps/other"),
                await ask(iam, await registry_bearer(iam), PULL),
            ]

    pull, push, other, empty = run(main())
    assert pull.allowed
    for refused in (push, other, empty):
        assert (refused.outcome, refused.error) == (Outcome.CHALLENGE, "insufficient_scope")


def test_a_registry_token_gives_no_right_that_its_principal_has_lost(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, str(ALICE))
            token = await registry_bearer(iam, "pull")
            before = await ask(iam, token)
            await iam.store.policies.set(REPOSITORY.resource, Policy(), etag="", actor="owner")
            return before, await ask(iam, token)

    before, after = run(main())
    assert before.allowed
    assert after.outcome is Outcome.DENIED


def test_an_anonymous_token_without_rights_leads_to_a_login(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            return await ask(iam, await registry_bearer(iam, principal=ANONYMOUS))

    decision = run(main())
    assert (decision.outcome, decision.error) == (Outcome.CHALLENGE, "insufficient_scope")


@pytest.mark.parametrize(
    "authorization",
    [
        "", "Bearer", "Bearer x", "Bearer a.b.c", "Basic", "Basic x", "Digest x",
        "Bearer hako-wrong", basic("oauth2accesstoken", "x"), basic("_json_key", "{}"),
        basic("_json_key_base64", "%"), basic("alice", OWNER_TOKEN), basic("", ""),
        "Bearer " + "x" * 100_000, "Basic " + base64.b64encode(b"no colon").decode(),
    ],
)  # fmt: skip
def test_what_proves_nothing_is_challenged_and_not_repeated(tmp_path, authorization):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, "allUsers")
            return await ask(iam, authorization)

    decision = run(main())
    assert (decision.outcome, decision.error) == (Outcome.CHALLENGE, "invalid_token")
    sent = authorization.partition(" ")[2]
    assert len(sent) < 4 or sent[:30] not in decision.reason


half = st.just("\ud800") | st.just("\0")
ids = st.sampled_from(["ab12", "zz"]) | half | st.text(max_size=5)
pem = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"
key_files = st.fixed_dictionaries(
    {
        "private_key_id": ids | st.integers(),
        "client_email": st.just("builder@shop.iam.gserviceaccount.com") | half,
        "private_key": st.just(pem) | st.text(max_size=30),
    }
).map(json.dumps)
jwts = st.tuples(
    st.fixed_dictionaries(
        {"alg": st.sampled_from(["RS256", "HS256", "none"]), "kid": ids | st.none()}
    ),
    st.fixed_dictionaries(
        {
            "iss": st.just("builder@shop.iam.gserviceaccount.com") | half | st.none(),
            "iat": st.floats() | st.none(),
        }
    ),
).map(
    lambda parts: ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in (*parts, "x")
    )
)
headers = st.one_of(
    st.text(max_size=40),
    st.tuples(st.sampled_from(["Bearer ", "Basic ", "bearer  "]), st.text(max_size=40)).map(
        "".join
    ),
    jwts.map("Bearer {}".format),
    st.tuples(
        st.sampled_from(["_json_key", "_token", "x"]), key_files | jwts | st.text(max_size=9)
    ).map(
        lambda pair: (
            "Basic " + base64.b64encode(":".join(pair).encode("utf-8", "surrogatepass")).decode()
        )
    ),
)


@given(st.lists(headers, min_size=10, max_size=10))
@settings(max_examples=30, deadline=None)
def test_whatever_is_sent_as_authorization_is_challenged(tmp_path_factory, sent):
    async def main():
        async with an_iam(tmp_path_factory.mktemp("iam")) as iam:
            return [(await ask(iam, text)).error for text in sent]

    assert set(run(main())) == {"invalid_token"}


def test_a_registry_token_is_no_password(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, str(ALICE))
            token = (await registry_bearer(iam, "pull")).removeprefix("Bearer ")
            return await ask(iam, basic("oauth2accesstoken", token))

    assert run(main()).error == "invalid_token"


def test_a_service_accounts_key_is_a_password_until_it_is_deleted(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            account = await iam.store.accounts.create(
                "shop", "builder", display_name="", description="", actor="owner"
            )
            await grant(iam, READER, f"serviceAccount:{account.email}")
            made = await iam.store.keys.create(
                account, algorithm="KEY_ALG_RSA_2048", server="http://h", actor="owner"
            )
            key = base64.b64decode(made["privateKeyData"]).decode()
            key_id = json.loads(key)["private_key_id"]
            encoded = base64.b64encode(key.encode()).decode()
            sent = [basic("_json_key", key), basic("_json_key_base64", encoded)]
            fresh = [await ask(iam, s) for s in sent]
            await iam.store.keys.set_disabled(account.email, key_id, disabled=True, actor="owner")
            disabled = [await ask(iam, s) for s in sent]
            await iam.store.keys.set_disabled(account.email, key_id, disabled=False, actor="owner")
            again = [await ask(iam, s) for s in sent]
            await iam.store.accounts.update(account.email, disabled=True, actor="owner")
            switched_off = [await ask(iam, s) for s in sent]
            await iam.store.accounts.update(account.email, disabled=False, actor="owner")
            await iam.store.keys.delete(account.email, key_id, actor="owner")
            return [
                [d.allowed for d in answers]
                for answers in (
                    fresh,
                    disabled,
                    again,
                    switched_off,
                    [await ask(iam, s) for s in sent],
                )
            ]

    assert run(main()) == [[True] * 2, [False] * 2, [True] * 2, [False] * 2, [False] * 2]


def test_a_decision_is_remembered_until_rights_change_but_not_asked_for_again_after_a_push(
    tmp_path,
):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, str(ALICE))
            token = await bearer(iam)
            question = (token, CLIENT, PULL, REPOSITORY, NAME)
            assert iam.authorizer.cached(*question) is None
            first = await iam.authorizer.decide(*question)
            assert iam.authorizer.cached(*question) is first

            iam.generation.bump()  # a push
            assert iam.authorizer.cached(*question) is None
            assert await iam.authorizer.decide(*question) is first

            await iam.store.policies.set(REPOSITORY.resource, Policy(), etag="", actor="owner")
            assert iam.authorizer.cached(*question) is None
            return await iam.authorizer.decide(*question)

    assert run(main()).outcome is Outcome.DENIED


def test_a_decision_of_another_process_is_seen(tmp_path):
    async def main():
        async with an_iam(tmp_path) as one, an_iam(tmp_path, one_clock(one)) as other:
            token = await bearer(one)
            before = await ask(one, token)
            await grant(other, READER, str(ALICE))
            return before.allowed, (await ask(one, token)).allowed

    assert run(main()) == (False, True)


def one_clock(iam: Iam):
    return iam.clock


def test_a_remembered_decision_ends_with_its_token(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, str(ALICE))
            token = await bearer(iam, lifetime_s=60)
            before = await ask(iam, token)
            iam.clock.s += 60
            return before, await ask(iam, token)

    before, after = run(main())
    assert before.allowed
    assert (after.outcome, after.error) == (Outcome.CHALLENGE, "invalid_token")


def test_a_repository_that_was_made_anew_is_another_one(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, str(ALICE))
            token = await bearer(iam)
            await ask(iam, token)
            renewed = Repository(id=2, project="shop", location="local", name="apps")
            return iam.authorizer.cached(token, CLIENT, PULL, renewed, NAME)

    assert run(main()) is None


def test_a_remembered_decision_costs_about_a_microsecond(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            await grant(iam, READER, str(ALICE))
            question = (await bearer(iam), CLIENT, PULL, REPOSITORY, NAME)
            await iam.authorizer.decide(*question)
            best = float("inf")
            for _ in range(5):
                start = time.perf_counter()
                for _ in range(2000):
                    iam.authorizer.cached(*question)
                best = min(best, (time.perf_counter() - start) / 2000)
            return best

    assert run(main()) < 5e-6  # 0.3 µs on a quiet machine


def test_the_base_answers_whoever_is_somebody(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            sent = [
                (None, CLIENT), (None, LOCAL_OWNER), (await bearer(iam), CLIENT),
                (await registry_bearer(iam), CLIENT),
                (await registry_bearer(iam, principal=ANONYMOUS), CLIENT), ("Bearer x", CLIENT),
            ]  # fmt: skip
            return [(await iam.authorizer.decide_base(*one)).allowed for one in sent]

    assert run(main()) == [False, True, True, True, True, False]


def test_the_catalog_shows_to_each_what_he_may_pull(tmp_path):
    async def main():
        async with an_iam(tmp_path) as iam:
            public = Repository(id=2, project="shop", location="local", name="public")
            await grant(iam, READER, "allUsers", resource=public.resource)
            await grant(iam, READER, str(ALICE))
            both = (REPOSITORY, public)
            seen = [
                [r.name for r in await iam.authorizer.visible(who, both)]
                for who in (ANONYMOUS, ALICE, user("bob@b.de"), OWNER)
            ]
            refused = await iam.authorizer.decide_catalog(
                await registry_bearer(iam, "pull"), CLIENT
            )
            return seen, refused.error

    assert run(main()) == (
        [["public"], ["apps", "public"], ["public"], ["apps", "public"]],
        "insufficient_scope",
    )


def test_a_challenge_leads_to_the_address_the_client_came_to():
    decision = Decision(outcome=Outcome.CHALLENGE, error="insufficient_scope")

    assert challenge(decision, scheme="https", host="r.test:5000", scope=scope_of(PUSH, NAME)) == (
        'Bearer realm="https://r.test:5000/v2/token",service="r.test:5000",'
        'scope="repository:shop/apps/web:pull,push",error="insufficient_scope"'
    )


@pytest.mark.parametrize("host", ["[::1]:80", "a-b.c", "127.0.0.1:5000", "localhost"])
def test_a_host_is_repeated(host):
    assert safe_host(host) == host


@pytest.mark.parametrize("host", ["", 'a"b', "a b", "a\r\nb", "a/b", "user@host", "a:b", "x" * 300])
def test_what_is_no_host_is_not_repeated(host):
    assert safe_host(host) == "localhost"
