import base64
import json
from urllib.parse import urlencode

import google.auth.crypt
import google.auth.jwt
import pytest

from hakobune.iam.policy import Binding, make_policy
from hakobune.iam.principal import ANONYMOUS, OWNER, service_account, user
from hakobune.registry.peer import Peer
from hakobune.registry.repository import Repository
from hakobune.registry.token_endpoint import (
    JWT_BEARER,
    SCOPE_LIMIT,
    TokenEndpoint,
    TokenRequest,
    read_scope,
)
from tests.unit.iam.store import OWNER_TOKEN, START_S, Iam, an_iam, run

CLIENT = Peer(False, "10.0.0.1")
APPS = Repository(id=1, project="shop", location="local", name="apps")
PUBLIC = Repository(id=2, project="shop", location="local", name="public")
READER, WRITER = "roles/artifactregistry.reader", "roles/artifactregistry.writer"
EMAIL = "builder@shop.iam.gserviceaccount.com"
ALICE = user("alice@example.com")
WEB = "repository:shop/apps/web"


class World:
    """The endpoint, an account that may write to `shop/apps`, and its key file."""

    def __init__(self, iam: Iam, key: str) -> None:
        self.iam = iam
        self.key = key
        self.document = json.loads(key)

        async def find(project: str, name: str) -> Repository | None:
            return {"shop/apps": APPS, "shop/public": PUBLIC}.get(f"{project}/{name}")

        self.endpoint = TokenEndpoint(iam.store, iam.authenticator, iam.authorizer, find)

    async def get(self, *scopes: str, authorization: str | None = None, peer: Peer = CLIENT, **more: str):  # fmt: skip
        query = urlencode([("service", "h:1"), *(("scope", s) for s in scopes), *more.items()])
        return await self.send(
            TokenRequest(
                method="GET", query=query, peer=peer, scheme="http", host="h:1",
                authorization=authorization,
            )
        )  # fmt: skip

    async def post(self, **form: str):
        return await self.send(
            TokenRequest(
                method="POST", query="", peer=CLIENT, scheme="http", host="h:1",
                body=urlencode(form).encode(),
            )
        )  # fmt: skip

    async def send(self, request: TokenRequest):
        answer = await self.endpoint.answer(request)
        assert ("Cache-Control", "no-store") in answer.headers
        assert isinstance(answer.body, bytes)
        return answer, json.loads(answer.body)

    @property
    def json_key(self) -> str:
        return basic("_json_key", self.key)

    def assertion(self, **claims: object) -> str:
        now = int(self.iam.clock.s)
        signer = google.auth.crypt.RSASigner.from_string(
            self.document["private_key"], self.document["private_key_id"]
        )
        payload = {
            "iss": EMAIL, "iat": now, "exp": now + 3600, "scope": "https://www.googleapis.com/auth/cloud-platform",
            "aud": "https://oauth2.googleapis.com/token",
        }  # fmt: skip
        return google.auth.jwt.encode(signer, {**payload, **claims}).decode()


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def with_world(tmp_path, test):
    async def main():
        async with an_iam(tmp_path) as iam:
            account = await iam.store.accounts.create(
                "shop", "builder", display_name="", description="", actor="owner"
            )
            made = await iam.store.keys.create(
                account, algorithm="KEY_ALG_RSA_2048", server="http://h:1", actor="owner"
            )
            for repository, role, member in (
                (APPS, WRITER, f"serviceAccount:{EMAIL}"),
                (PUBLIC, READER, "allUsers"),
            ):
                policy = make_policy((Binding(role, (member,)),))
                await iam.store.policies.set(repository.resource, policy, etag="", actor="owner")
            return await test(World(iam, base64.b64decode(made["privateKeyData"]).decode()))

    return run(main())


async def token_of(world: World, document):
    return await world.iam.store.signing_keys.verify(document["token"])


def test_scopes_are_intersected_with_rights(tmp_path):
    async def test(world: World):
        return await world.get(
            f"{WEB}:push,pull,delete", "repository:shop/public/x:pull,push",
            "repository:shop/none/x:pull", "repository:other/apps/x:pull", "registry:catalog:*",
            "plugin:shop/apps/web:pull", "repository:shop/apps:pull", "repository:SHOP/apps/x:pull",
            authorization=world.json_key,
        )  # fmt: skip

    answer, document = with_world(tmp_path, test)
    assert answer.status == 200
    assert document["scope"] == f"{WEB}:push,pull repository:shop/public/x:pull registry:catalog:*"
    assert document["token"] == document["access_token"]
    assert 60 <= document["expires_in"] <= 3600
    assert document["issued_at"].endswith("Z")
    assert "refresh_token" not in document


def test_missing_rights_never_fail_and_give_a_token_for_nothing(tmp_path):
    async def test(world: World):
        answer, document = await world.get(f"{WEB}:pull")
        token = await token_of(world, document)
        return answer.status, token.principal, token.access

    assert with_world(tmp_path, test) == (200, ANONYMOUS, ())


def test_everybody_gets_a_token_for_what_everybody_may(tmp_path):
    async def test(world: World):
        return await world.get("repository:shop/public/x:pull,push")

    assert with_world(tmp_path, test)[1]["scope"] == "repository:shop/public/x:pull"


def test_a_name_that_is_not_there_is_granted_to_who_may_make_it(tmp_path):
    async def test(world: World):
        return await world.get("repository:shop/new/x:pull,push,delete", "repository:new/new/x:*", authorization=basic("_token", OWNER_TOKEN))  # fmt: skip

    answer = with_world(tmp_path, test)[1]
    assert answer["scope"] == "repository:shop/new/x:pull,push,delete repository:new/new/x:pull,push,delete"  # fmt: skip


@pytest.mark.parametrize("word", ["oauth2accesstoken", "_token", "_dcgcloud_token"])
def test_an_access_token_is_a_password_and_bounds_the_tokens_time(tmp_path, word):
    async def test(world: World):
        account = service_account(EMAIL)
        text, _ = await world.iam.store.issue_access_token(account, lifetime_s=600)
        world.iam.clock.s += 100
        _, long = await world.get(f"{WEB}:pull", authorization=basic(word, text))
        world.iam.clock.s += 480
        _, short = await world.get(
            f"{WEB}:pull", authorization=basic(word, text), offline_token="true"
        )
        return long["expires_in"], short["expires_in"], "refresh_token" in short

    assert with_world(tmp_path, test) == (500, 60, False)


def test_docker_gets_a_login_for_a_key_and_lives_on_it(tmp_path):
    async def test(world: World):
        _, first = await world.get(authorization=world.json_key, offline_token="true", account="_json_key", client_id="docker")  # fmt: skip
        login = first["refresh_token"]
        world.iam.clock.s += 90 * 24 * 3600
        _, second = await world.post(grant_type="refresh_token", refresh_token=login, scope=f"{WEB}:pull {WEB}:push", service="h:1", client_id="docker")  # fmt: skip
        world.iam.clock.s += 170 * 24 * 3600
        third, _ = await world.post(grant_type="refresh_token", refresh_token=login)
        world.iam.clock.s += 181 * 24 * 3600
        ended, _ = await world.post(grant_type="refresh_token", refresh_token=login)
        return second, (await token_of_safely(second)), third.status, ended.status

    async def token_of_safely(document):
        return document["refresh_token"]

    second, again, third, ended = with_world(tmp_path, test)
    assert second["scope"] == f"{WEB}:pull {WEB}:push"
    assert again == second["refresh_token"]
    assert (third, ended) == (200, 401)


def test_a_login_ends_with_its_key_and_with_its_account(tmp_path):
    async def test(world: World):
        _, first = await world.get(authorization=world.json_key, offline_token="true")
        form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        accounts, keys = world.iam.store.accounts, world.iam.store.keys
        statuses = [(await world.post(**form))[0].status]
        await accounts.update(EMAIL, disabled=True, actor="owner")
        statuses.append((await world.post(**form))[0].status)
        await accounts.update(EMAIL, disabled=False, actor="owner")
        statuses.append((await world.post(**form))[0].status)
        await keys.delete(EMAIL, world.document["private_key_id"], actor="owner")
        statuses.append((await world.post(**form))[0].status)
        return statuses

    assert with_world(tmp_path, test) == [200, 401, 200, 401]


def test_the_password_grant_is_basic_in_a_form(tmp_path):
    async def test(world: World):
        _, good = await world.post(grant_type="password", username="_json_key", password=world.key, scope=f"{WEB}:pull", access_type="offline")  # fmt: skip
        bad, _ = await world.post(grant_type="password", username="_json_key", password="{}")
        return good, bad.status

    good, bad = with_world(tmp_path, test)
    assert good["scope"] == f"{WEB}:pull"
    assert good["refresh_token"]
    assert bad == 401


@pytest.mark.parametrize(
    "authorization",
    ["Basic x", basic("_token", "x"), basic("alice", "x"), "Bearer x", "", "Negotiate x"],
)
def test_bad_credentials_are_401_in_the_registrys_words_and_oauths(tmp_path, authorization):
    async def test(world: World):
        return await world.get(f"{WEB}:pull", authorization=authorization)

    answer, document = with_world(tmp_path, test)
    assert answer.status == 401
    assert ("WWW-Authenticate", 'Basic realm="h:1"') in answer.headers
    assert document["errors"][0]["code"] == "UNAUTHORIZED"
    assert document["error"] == "invalid_grant"
    assert document["errors"][0]["message"] == document["error_description"] != ""


def test_a_registry_token_gets_no_other(tmp_path):
    async def test(world: World):
        _, first = await world.get(f"{WEB}:pull", authorization=world.json_key)
        bearer = f"Bearer {first['token']}"
        return (await world.get(f"{WEB}:push", authorization=bearer))[0].status

    assert with_world(tmp_path, test) == 401


def test_an_accounts_assertion_becomes_an_access_token(tmp_path):
    async def test(world: World):
        answers = [
            await world.post(grant_type=JWT_BEARER, assertion=world.assertion(**claims))
            for claims in ({}, {"aud": "http://h:1/token"})
        ]
        tokens = [document["access_token"] for _, document in answers]
        identities = [await world.iam.authenticator.bearer(token) for token in tokens]
        return answers, identities

    answers, identities = with_world(tmp_path, test)
    for answer, document in answers:
        assert answer.status == 200
        assert (document["token_type"], document["expires_in"]) == ("Bearer", 3600)
    assert {i.principal for i in identities} == {service_account(EMAIL)}
    assert all(i.token is None for i in identities)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://elsewhere.test/token"},
        {"exp": START_S - 3600, "iat": START_S - 7200},
        {"sub": "alice@example.com"},
        {"iss": "other1@shop.iam.gserviceaccount.com"},
        {"target_audience": "https://x"},
    ],
)
def test_an_assertion_for_somebody_else_is_a_bad_request(tmp_path, claims):
    async def test(world: World):
        return await world.post(grant_type=JWT_BEARER, assertion=world.assertion(**claims))

    answer, document = with_world(tmp_path, test)
    assert answer.status == 400
    assert document["error"] in ("invalid_grant", "invalid_request")


def test_a_jwt_that_an_account_signs_for_an_api_is_its_access_token(tmp_path):
    """google-auth sends these when a client library uses no token endpoint at all."""

    async def test(world: World):
        good = [
            world.assertion(aud="https://artifactregistry.googleapis.com/"),
            world.assertion(aud=None),
        ]
        bad = [
            world.assertion(),  # meant for the token endpoint
            world.assertion(aud="https://elsewhere.test/"),
            world.assertion(aud="https://googleapis.com.elsewhere.test/"),
            world.assertion(aud=None, scope="openid"),
        ]
        principals = [(await world.iam.authenticator.bearer(text)).principal for text in good]
        refused = [(await world.get(authorization=f"Bearer {text}"))[0].status for text in bad]
        return principals, refused

    assert with_world(tmp_path, test) == ([service_account(EMAIL)] * 2, [401] * 4)


@pytest.mark.parametrize("form", [{}, {"grant_type": "client_credentials"}, {"grant_type": ""}])
def test_other_grants_are_refused_in_oauths_words(tmp_path, form):
    async def test(world: World):
        return await world.post(**form)

    answer, document = with_world(tmp_path, test)
    assert (answer.status, document["error"]) == (400, "unsupported_grant_type")


def test_the_owners_socket_gets_the_owners_token(tmp_path):
    async def test(world: World):
        _, document = await world.get(f"{WEB}:delete", peer=Peer(True, "uid:0"))
        return (await token_of(world, document)).principal, document["scope"]

    assert with_world(tmp_path, test) == (OWNER, f"{WEB}:delete")


def test_thousands_of_scopes_are_not_looked_up(tmp_path):
    async def test(world: World):
        scopes = [f"repository:shop/public/x{n}:pull" for n in range(SCOPE_LIMIT + 50)]
        return await world.get(*scopes)

    assert len(with_world(tmp_path, test)[1]["scope"].split()) == SCOPE_LIMIT


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("repository:a/b:pull", ("repository", "a/b", ("pull",))),
        ("repository:host:5000/a/b:pull,push", ("repository", "host:5000/a/b", ("pull", "push"))),
        ("repository(plugin):a/b:pull", ("repository", "a/b", ("pull",))),
        ("registry:catalog:*", ("registry", "catalog", ("*",))),
        ("repository:a/b:", ("repository", "a/b", ())),
    ],
)
def test_a_scope_is_read_from_both_ends(text, parts):
    scope = read_scope(text)

    assert scope is not None
    assert (scope.type, scope.name, scope.actions) == parts


@pytest.mark.parametrize("text", ["", ":", "::", "repository", "repository:a", ":a:pull"])
def test_what_is_no_scope_is_left_out(text):
    assert read_scope(text) is None


def test_who_asked_is_told_for_the_log_and_nobody_where_nothing_was_proved(tmp_path):
    async def test(world: World):
        told: list[str] = []
        for authorization in (world.json_key, None, basic("_token", "x")):
            request = TokenRequest(
                method="GET", query="", peer=CLIENT, scheme="http", host="h:1",
                authorization=authorization, identified=told.append,
            )  # fmt: skip
            await world.send(request)
        form = urlencode({"grant_type": JWT_BEARER, "assertion": world.assertion()}).encode()
        await world.send(
            TokenRequest(
                method="POST", query="", peer=CLIENT, scheme="http", host="h:1", body=form,
                identified=told.append,
            )
        )  # fmt: skip
        return told

    account = f"serviceAccount:{EMAIL}"
    assert with_world(tmp_path, test) == [account, "anonymous", account]


def test_a_request_does_not_show_its_credentials():
    request = TokenRequest(
        method="POST", query="", peer=CLIENT, scheme="http", host="h", authorization="Basic secret",
        body=b"password=secret",
    )  # fmt: skip

    assert "secret" not in repr(request)
