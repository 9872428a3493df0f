"""IAM over REST, from the guard to the database: as the owner's socket and HAProxy's reach it."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette

from hakobune.api.artifacts_open import open_artifacts
from hakobune.api.caller import ANYBODY, OWNER_ONLY, OwnerCalls
from hakobune.api.errors import answer_hako_error
from hakobune.api.guard import TokenGuard
from hakobune.api.iam_v1 import iam_v1_routes
from hakobune.api.process import make_app
from hakobune.api.registry_state import open_registry_state
from hakobune.api.run_v2 import run_v2_routes
from hakobune.errors import HakoError
from hakobune.iam.principal import OWNER, service_account, user
from hakobune.iam.roles import PERMISSIONS, ROLES
from hakobune.settings import Settings
from hakobune.state.audit import read_audit
from tests.unit.iam.store import OWNER_TOKEN, Iam, an_iam, run

EMAIL = "builder@shop.iam.gserviceaccount.com"
ACCOUNT = f"/v1/projects/-/serviceAccounts/{EMAIL}"
READER = "roles/artifactregistry.reader"


class Api:
    """The application behind both doors."""

    def __init__(self, iam: Iam) -> None:
        self.iam = iam
        app = Starlette(
            routes=iam_v1_routes(iam.store), exception_handlers={HakoError: answer_hako_error}
        )
        app.state.iam = iam.store
        app.state.server = "http://localhost:8080"
        self._socket = OwnerCalls(app)
        self._tcp = TokenGuard(app, hosts={"localhost"}, authenticator=iam.authenticator)

    async def __call__(
        self, method: str, target: str, body: Any = None, *, token: str | None = None, host: str = "localhost:8080"
    ) -> tuple[int, Any]:  # fmt: skip
        """Ask by the owner's socket, or over TCP with a token."""
        path, _, query = target.partition("?")
        headers = [(b"host", host.encode())]
        if token is not None:
            headers += [
                (b"authorization", f"Bearer {token}".encode()),
                (b"x-forwarded-proto", b"https"),
            ]
        scope = {
            "type": "http", "method": method, "path": path, "raw_path": path.encode(),
            "query_string": query.encode(), "headers": headers, "root_path": "",
            "server": ("localhost", 8080), "scheme": "http", "http_version": "1.1",
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            data = b"" if body is None else json.dumps(body).encode()
            return {"type": "http.request", "body": data, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await (self._socket if token is None else self._tcp)(scope, receive, send)
        data = b"".join(message.get("body", b"") for message in sent[1:])
        return sent[0]["status"], json.loads(data)

    async def token(self, email: str) -> str:
        account = email.endswith("gserviceaccount.com")
        principal = service_account(email) if account else user(email)
        return (await self.iam.store.issue_access_token(principal))[0]

    async def make_account(self) -> None:
        await self("POST", "/v1/projects/shop/serviceAccounts", {"accountId": "builder"})

    async def grant(self, resource: str, role: str, *members: str) -> tuple[int, Any]:
        policy = {"bindings": [{"role": role, "members": list(members)}]}
        return await self("POST", f"/v1/{resource}:setIamPolicy", {"policy": policy})


def with_api(tmp_path, test):
    @asynccontextmanager
    async def api():
        async with an_iam(tmp_path) as iam:
            yield Api(iam)

    async def main():
        async with api() as one:
            return await test(one)

    return run(main())


def test_every_route_of_the_controller_wants_a_permission_that_some_role_holds(tmp_path):
    async def main():
        env = {"HAKO_HOME": str(tmp_path)}
        settings = Settings.from_environment(env, uid=0)
        state = await open_registry_state(settings)
        try:
            run_routes = run_v2_routes(None)  # type: ignore[arg-type] # only the table is read
            registry = open_artifacts(state, settings, env=env)
            return make_app(run_routes, state, registry, server="", history_days=400).routes
        finally:
            await state.close()

    health, *routes = run(main())
    wanted = {getattr(route.endpoint, "permission", route) for route in routes}
    assert health.path == "/healthz"
    assert len(routes) > 100
    assert wanted - {ANYBODY, OWNER_ONLY} <= PERMISSIONS


def test_an_account_is_made_described_changed_listed_and_deleted(tmp_path):
    async def test(api: Api):
        made = await api(
            "POST", "/v1/projects/shop/serviceAccounts",
            {"accountId": "builder", "serviceAccount": {"displayName": "CI"}},
        )  # fmt: skip
        patch = {"serviceAccount": {"displayName": "CI 2"}, "updateMask": "display_name"}
        changed = await api("PATCH", f"/v1/projects/shop/serviceAccounts/{EMAIL}", patch)
        listed = await api("GET", "/v1/projects/shop/serviceAccounts?pageSize=1")
        gone = await api("DELETE", ACCOUNT)
        return made, changed, listed, gone, await api("GET", ACCOUNT)

    made, changed, listed, gone, unknown = with_api(tmp_path, test)
    assert made[0] == 200
    assert made[1]["name"] == f"projects/shop/serviceAccounts/{EMAIL}"
    assert len(made[1]["uniqueId"]) == 21
    assert changed[1]["displayName"] == "CI 2"
    assert listed[1] == {"accounts": [changed[1]]}
    assert gone == (200, {})
    assert (unknown[0], unknown[1]["error"]["status"]) == (404, "NOT_FOUND")


def test_an_account_of_another_project_is_not_of_this_one(tmp_path):
    async def test(api: Api):
        await api.make_account()
        return await api("GET", f"/v1/projects/other/serviceAccounts/{EMAIL}")

    assert with_api(tmp_path, test)[0] == 404


def test_a_key_is_given_out_once_and_names_the_address_the_caller_came_to(tmp_path):
    async def test(api: Api):
        await api.make_account()
        made = [
            (await api("POST", f"{ACCOUNT}/keys", {}, token=token))[1]
            for token in (None, OWNER_TOKEN)
        ]
        [first, second] = (await api("GET", f"{ACCOUNT}/keys"))[1]["keys"]
        name = made[0]["name"].rpartition("/")[2]
        await api("POST", f"{ACCOUNT}/keys/{name}:disable", {})
        disabled = (await api("GET", f"{ACCOUNT}/keys/{name}"))[1]["disabled"]
        raw = f"{ACCOUNT}/keys/{name}?publicKeyType=TYPE_RAW_PUBLIC_KEY"
        public = base64.b64decode((await api("GET", raw))[1]["publicKeyData"])
        assert public.startswith(b"-----BEGIN PUBLIC KEY")
        await api("DELETE", f"{ACCOUNT}/keys/{name}")
        left = (await api("GET", f"{ACCOUNT}/keys"))[1]["keys"]
        return made, first, second, disabled, left

    made, first, second, disabled, left = with_api(tmp_path, test)
    files = [json.loads(base64.b64decode(key["privateKeyData"])) for key in made]
    assert [file["token_uri"] for file in files] == [
        "http://localhost:8080/token",
        "https://localhost:8080/token",
    ]
    assert files[0]["client_email"] == EMAIL
    assert "privateKeyData" not in first
    assert disabled is True
    assert left == [key for key in (first, second) if key["name"] != made[0]["name"]]


@pytest.mark.parametrize(
    "body", [{"keyAlgorithm": "KEY_ALG_RSA_1024"}, {"privateKeyType": "TYPE_PKCS12_FILE"}]
)
def test_keys_that_are_not_made_here_are_refused(tmp_path, body):
    async def test(api: Api):
        await api.make_account()
        return await api("POST", f"{ACCOUNT}/keys", body)

    assert with_api(tmp_path, test)[1]["error"]["status"] == "INVALID_ARGUMENT"


def test_an_old_etag_is_aborted_in_googles_words(tmp_path):
    async def test(api: Api):
        _, policy = await api("GET", "/v1/projects/shop:getIamPolicy")
        await api.grant("projects/shop", READER, "allUsers")
        return await api("POST", "/v1/projects/shop:setIamPolicy", {"policy": policy})

    status, answer = with_api(tmp_path, test)
    assert (status, answer["error"]["status"]) == (409, "ABORTED")
    assert "There were concurrent policy changes" in answer["error"]["message"]


def test_a_policy_that_cannot_be_is_400_with_its_place_and_a_fix(tmp_path):
    async def test(api: Api):
        return await api.grant("projects/shop", READER, "alice@example.com")

    status, answer = with_api(tmp_path, test)
    assert status == 400
    assert "policy.bindings[0].members[0]: 'alice@example.com'" in answer["error"]["message"]
    assert answer["error"]["details"][0]["metadata"]["fix"] == "user:alice@example.com"


def test_permissions_are_tested_for_who_asks(tmp_path):
    asked = {"permissions": [f"artifactregistry.repositories.{w}Artifacts" for w in ("download", "upload")]}  # fmt: skip

    async def test(api: Api):
        await api.grant("projects/shop", READER, "domain:example.com")
        path = "/v1/projects/shop:testIamPermissions"
        return [
            (await api("POST", path, asked, token=await api.token(email)))[1]
            for email in ("alice@example.com", "bob@elsewhere.org")
        ], (await api("POST", path, asked))[1]

    assert with_api(tmp_path, test) == (
        [{"permissions": asked["permissions"][:1]}, {}],
        {"permissions": asked["permissions"]},
    )


def test_over_tcp_each_call_wants_its_permission(tmp_path):
    async def test(api: Api):
        await api.make_account()
        alice = await api.token("alice@example.com")
        calls = [
            ("GET", "/v1/projects/shop/serviceAccounts", None),
            ("GET", ACCOUNT, None),
            ("POST", f"{ACCOUNT}/keys", {}),
            ("POST", f"{ACCOUNT}:generateAccessToken", {}),
            ("POST", "/v1/projects/shop:setIamPolicy", {"policy": {}}),
            ("GET", "/v1/projects/shop:getIamPolicy", None),
            ("GET", "/v1/projects/shop", None),
            ("GET", "/v1/groups", None),
            ("POST", "/v1/users/bob@example.com:generateAccessToken", {}),
            ("POST", "/v1/owner:generateAccessToken", {}),
            ("POST", "/v1/signingKeys:rotate", {}),
            ("GET", "/v1/roles", None),
        ]

        async def statuses():
            return [(await api(*call, token=alice))[0] for call in calls]

        before = await statuses()
        await api.grant("projects/shop", "roles/owner", "user:alice@example.com")
        return before, await statuses()

    before, as_owner_of_the_project = with_api(tmp_path, test)
    assert before == [403] * 11 + [200]
    assert as_owner_of_the_project == [200, 200, 200, 403, 200, 403, 403, 403, 403, 403, 403, 200]


def test_who_may_be_an_account_gets_its_tokens(tmp_path):
    async def test(api: Api):
        await api.make_account()
        path = f"projects/shop/serviceAccounts/{EMAIL}"
        await api.grant(path, "roles/iam.serviceAccountTokenCreator", "user:alice@example.com")
        status, answer = await api(
            "POST", f"{ACCOUNT}:generateAccessToken",
            {"lifetime": "600s", "scope": ["https://www.googleapis.com/auth/cloud-platform"]},
            token=await api.token("alice@example.com"),
        )  # fmt: skip
        identity = await api.iam.authenticator.bearer(answer["accessToken"])
        [row, *_] = await read_audit(api.iam.store._desk.sql)
        return status, answer["expireTime"], identity.principal, (row.actor, row.verb, row.resource)

    assert with_api(tmp_path, test) == (
        200,
        "2027-01-15T08:10:00Z",
        service_account(EMAIL),
        ("user:alice@example.com", "token.issue", f"serviceAccount:{EMAIL}"),
    )


def test_the_owner_gives_tokens_to_users_and_to_himself(tmp_path):
    async def test(api: Api):
        answers = [
            await api("POST", f"/v1/{name}:generateAccessToken", {})
            for name in ("users/Alice@Example.com", "owner")
        ]
        found = [
            (await api.iam.authenticator.bearer(answer["accessToken"])).principal
            for _, answer in answers
        ]
        account = await api("POST", f"/v1/users/{EMAIL}:generateAccessToken", {})
        return found, account[0]

    assert with_api(tmp_path, test) == ([user("alice@example.com"), OWNER], 400)


def test_a_slash_in_an_id_names_no_other_resource(tmp_path):
    async def test(api: Api):
        await api.grant("projects/a", "roles/owner", "user:alice@example.com")
        return await api(
            "GET", "/v1/projects/a%2Fserviceaccounts:getIamPolicy",
            token=await api.token("alice@example.com"),
        )  # fmt: skip

    assert with_api(tmp_path, test)[0] == 400


@pytest.mark.parametrize(("host", "token"), [("evil.test", OWNER_TOKEN), ("localhost", "wrong")])
def test_the_guard_stands_before_everything(tmp_path, host, token):
    async def test(api: Api):
        return await api("GET", "/v1/roles", token=token, host=host)

    assert with_api(tmp_path, test)[0] in (401, 403)


def test_groups_are_made_filled_listed_looked_up_and_deleted(tmp_path):
    async def test(api: Api):
        made = await api(
            "POST", "/v1/groups", {"groupKey": {"id": "Team@x.org"}, "displayName": "T"}
        )
        name = "/v1/groups/team@x.org"
        member = {"preferredMemberKey": {"id": "alice@example.com"}}
        added = await api("POST", f"{name}/memberships", member)
        members = await api("GET", f"{name}/memberships")
        looked_up = await api("GET", "/v1/groups:lookup?groupKey.id=team@x.org")
        listed = await api("GET", "/v1/groups")
        removed = await api("DELETE", f"{name}/memberships/alice@example.com")
        again = await api("DELETE", f"{name}/memberships/alice@example.com")
        await api("DELETE", name)
        return made, added, members, looked_up, listed, removed, again, await api("GET", name)

    made, added, members, looked_up, listed, removed, again, gone = with_api(tmp_path, test)
    assert made[1]["groupKey"] == {"id": "team@x.org"}
    assert members[1]["memberships"] == [added[1]]
    assert looked_up[1] == {"name": "groups/team@x.org"}
    assert listed[1]["groups"] == [made[1]]
    assert (removed[0], again[0], gone[0]) == (200, 404, 404)


@pytest.mark.parametrize("text", ["\ud800", "a\0b", 5, ["x"]])
def test_what_no_database_takes_is_refused(tmp_path, text):
    async def test(api: Api):
        await api.make_account()
        wanted = {"accountId": "builder2", "serviceAccount": {"displayName": text}}
        return [
            (await api("POST", "/v1/projects/shop/serviceAccounts", wanted))[0],
            (await api("POST", "/v1/projects/shop/serviceAccounts", {"accountId": text}))[0],
            (await api("POST", "/v1/groups", {"groupKey": {"id": text}}))[0],
            (await api("POST", "/v1/groups", {"groupKey": {"id": "a@b.de"}, "description": text}))[
                0
            ],
            (await api.grant("projects/shop", READER, text))[0],
            (await api.grant("projects/shop", text, "allUsers"))[0],
        ]

    assert with_api(tmp_path, test) == [400] * 6


@pytest.mark.parametrize("part", ["%00", "x%00@shop.iam.gserviceaccount.com", "%ff", "..", "*"])
def test_strange_names_in_paths_name_nothing(tmp_path, part):
    async def test(api: Api):
        await api.make_account()
        return [
            (await api("GET", f"/v1/projects/-/serviceAccounts/{part}"))[0],
            (await api("DELETE", f"{ACCOUNT}/keys/{part}"))[0],
            (await api("POST", f"{ACCOUNT}/keys/{part}:disable", {}))[0],
            (await api("GET", f"{ACCOUNT}/keys/{part}"))[0],
            (await api("GET", f"/v1/groups/{part}"))[0],
            (await api("DELETE", f"/v1/groups/{part}"))[0],
            (await api("GET", f"/v1/groups/{part}/memberships"))[0],
        ]

    assert with_api(tmp_path, test) == [404] * 7


def test_roles_are_listed_and_described(tmp_path):
    async def test(api: Api):
        return (
            await api("GET", "/v1/roles"),
            await api("GET", f"/v1/{READER}"),
            await api("GET", "/v1/roles/none"),
        )

    listed, reader, unknown = with_api(tmp_path, test)
    assert {role["name"] for role in listed[1]["roles"]} == set(ROLES)
    assert set(reader[1]["includedPermissions"]) == ROLES[READER].permissions
    assert unknown[0] == 404


def test_a_project_has_a_number(tmp_path):
    async def test(api: Api):
        return await api("GET", "/v1/projects/shop"), await api("GET", "/v1/projects/gcp-sa-x")

    project, reserved = with_api(tmp_path, test)
    assert len(project[1]["projectNumber"]) == 12
    assert reserved[0] == 400


def test_revoking_ends_every_token_at_once(tmp_path):
    async def test(api: Api):
        token = await api.token("alice@example.com")
        before = await api("GET", "/v1/roles", token=token)
        await api("POST", "/v1/signingKeys:rotate", {})
        rotated = await api("GET", "/v1/roles", token=token)
        await api("POST", "/v1/signingKeys:rotate", {"revoke": True})
        return before[0], rotated[0], (await api("GET", "/v1/roles", token=token))[0]

    assert with_api(tmp_path, test) == (200, 200, 401)
