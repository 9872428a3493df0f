"""Role × verb × kind of resource × kind of member, exhaustively: what the table in `iam.roles` must say, written a second time."""

from __future__ import annotations

import itertools

import pytest

from hakobune.iam.member import MemberKind, identities
from hakobune.iam.policy import Binding, Policy, decide
from hakobune.iam.principal import ANONYMOUS, OWNER, service_account, user
from hakobune.iam.resource import ResourceKind, chain, kind_of
from hakobune.iam.roles import CREATE_ON_PUSH, DELETE, PULL, PULL_VIA_VIRTUAL, PUSH, ROLES

AR = "artifactregistry.repositories."
VERBS = {
    "pull": PULL,
    "pull via virtual": PULL_VIA_VIRTUAL,
    "push": PUSH,
    "delete": DELETE,
    "create on push": CREATE_ON_PUSH,
    "list tags": "artifactregistry.tags.list",
    "set tag": "artifactregistry.tags.create",
    "delete tag": "artifactregistry.tags.delete",
    "create repository": AR + "create",
    "change repository": AR + "update",
    "delete repository": AR + "delete",
    "see grants": AR + "getIamPolicy",
    "grant": AR + "setIamPolicy",
    "deploy": "run.services.create",
    "call": "run.routes.invoke",
    "make a key": "iam.serviceAccountKeys.create",
    "be an account": "iam.serviceAccounts.getAccessToken",
    "grant in the project": "resourcemanager.projects.setIamPolicy",
}
READS = {"pull", "pull via virtual", "list tags"}
WRITES = READS | {"push", "set tag"}
MANAGES = WRITES | {"delete", "delete tag"}
ADMINISTERS = MANAGES | {
    "create repository", "change repository", "delete repository", "see grants", "grant",
}  # fmt: skip

MAY = {
    "roles/artifactregistry.reader": READS,
    "roles/artifactregistry.writer": WRITES,
    "roles/artifactregistry.repoAdmin": MANAGES,
    "roles/artifactregistry.admin": ADMINISTERS,
    "roles/artifactregistry.createOnPushWriter": WRITES | {"create on push"},
    "roles/artifactregistry.createOnPushRepoAdmin": MANAGES | {"create on push"},
    "roles/artifactregistry.serviceAgent": {"pull", "pull via virtual"},
    "roles/run.serviceAgent": READS,
    "roles/run.invoker": {"call"},
    "roles/run.viewer": set(),
    "roles/run.developer": {"deploy"},
    "roles/run.admin": {"deploy", "call"},
    "roles/iam.serviceAccountAdmin": set(),
    "roles/iam.serviceAccountKeyAdmin": {"make a key"},
    "roles/iam.serviceAccountTokenCreator": {"be an account"},
    "roles/iam.serviceAccountUser": set(),
    "roles/resourcemanager.projectIamAdmin": {"grant in the project"},
    "roles/browser": set(),
    "roles/viewer": READS | {"see grants"},
    "roles/editor": MANAGES
    | {"create repository", "change repository", "delete repository", "see grants", "deploy", "make a key"},
    "roles/owner": (set(VERBS) - {"be an account"}),
}  # fmt: skip

PROJECT = "projects/shop"
RESOURCES = {
    ResourceKind.PROJECT: PROJECT,
    ResourceKind.REPOSITORY: f"{PROJECT}/locations/local/repositories/apps",
    ResourceKind.SERVICE: f"{PROJECT}/locations/local/services/web",
    ResourceKind.SERVICE_ACCOUNT: f"{PROJECT}/serviceAccounts/builder@shop.iam.gserviceaccount.com",
}
GRANTABLE = {
    "artifactregistry": {ResourceKind.PROJECT, ResourceKind.REPOSITORY},
    "run": {ResourceKind.PROJECT, ResourceKind.SERVICE},
    "iam": {ResourceKind.PROJECT, ResourceKind.SERVICE_ACCOUNT},
}

ALICE = user("alice@example.com")
BUILDER = service_account("builder@shop.iam.gserviceaccount.com")
PRINCIPALS = {
    "the user": (ALICE, ()),
    "a user of the domain": (user("bob@example.com"), ()),
    "a user of the group": (user("carol@elsewhere.org"), ("team@example.com",)),
    "another user": (user("dave@elsewhere.org"), ()),
    "the account": (BUILDER, ()),
    "another account": (service_account("runner@other.iam.gserviceaccount.com"), ()),
    "nobody": (ANONYMOUS, ()),
}
IDENTITIES = {who: identities(principal, groups) for who, (principal, groups) in PRINCIPALS.items()}
KNOWN = set(PRINCIPALS) - {"nobody"}
MEMBERS = {
    MemberKind.USER: ("user:alice@example.com", {"the user"}),
    MemberKind.SERVICE_ACCOUNT: (f"serviceAccount:{BUILDER.email}", {"the account"}),
    MemberKind.GROUP: ("group:team@example.com", {"a user of the group"}),
    MemberKind.DOMAIN: ("domain:example.com", {"the user", "a user of the domain"}),
    MemberKind.ALL_USERS: ("allUsers", set(PRINCIPALS)),
    MemberKind.ALL_AUTHENTICATED_USERS: ("allAuthenticatedUsers", KNOWN),
    MemberKind.DELETED: (f"deleted:serviceAccount:{BUILDER.email}?uid=1", set()),
}


def test_the_table_names_every_role_and_every_kind_of_member():
    assert MAY.keys() == ROLES.keys()
    assert MEMBERS.keys() == set(MemberKind)
    assert {kind: kind_of(name) for kind, name in RESOURCES.items()} == {k: k for k in ResourceKind}


@pytest.mark.parametrize("role", MAY)
def test_a_role_may_what_the_table_says_where_it_was_granted_and_below_and_nowhere_else(role):
    wrong = []
    for granted_on, asked_on, verb, kind, who in itertools.product(
        ResourceKind, ResourceKind, VERBS, MemberKind, PRINCIPALS
    ):
        member, applies_to = MEMBERS[kind]
        grant = (RESOURCES[granted_on], Policy((Binding(role, (member,)),)))
        policies = [grant] if grant[0] in chain(RESOURCES[asked_on]) else []

        verdict = decide(PRINCIPALS[who][0], IDENTITIES[who], VERBS[verb], policies)

        reaches = granted_on in (asked_on, ResourceKind.PROJECT)
        if verdict.allowed is not (verb in MAY[role] and who in applies_to and reaches):
            wrong.append((granted_on, asked_on, verb, member, who, verdict.reason))
    assert wrong == []


@pytest.mark.parametrize("verb", VERBS)
def test_the_owner_may_everything_without_a_grant(verb):
    assert decide(OWNER, identities(OWNER), VERBS[verb], ()).allowed


def test_being_the_owner_is_nothing_that_a_binding_can_name():
    assert identities(OWNER) == frozenset()


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_role_is_granted_where_one_of_its_permissions_means_something(role):
    service, dot, _ = role.removeprefix("roles/").partition(".")
    expected = GRANTABLE.get(service) if dot else None
    assert ROLES[role].granted_on == (expected or {ResourceKind.PROJECT})
