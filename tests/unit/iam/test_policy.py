import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.iam.errors import ConcurrentChangeError, InvalidRequestError
from hakobune.iam.member import identities
from hakobune.iam.policy import (
    Binding,
    Policy,
    changes,
    check_etag,
    decide,
    default_policy,
    make_policy,
    read_policy,
    without_member,
)
from hakobune.iam.principal import ANONYMOUS, registry_agent, serving_agent, user
from hakobune.iam.resource import ResourceKind
from hakobune.iam.roles import PERMISSIONS, PULL, ROLES

READER = "roles/artifactregistry.reader"
REPOSITORY = "projects/p/locations/l/repositories/r"

emails = st.from_regex(r"[a-z]{1,5}@(a|b)\.example\.com", fullmatch=True)
members = st.one_of(
    emails.map("user:{}".format),
    emails.map("group:{}".format),
    st.sampled_from(["domain:a.example.com", "allUsers", "allAuthenticatedUsers"]),
    st.just("serviceAccount:builder@shop.iam.gserviceaccount.com"),
)
project_roles = st.sampled_from(
    sorted(r for r in ROLES if ResourceKind.PROJECT in ROLES[r].granted_on)
)
bindings = st.builds(
    lambda role, who: Binding(role, tuple(who)), project_roles, st.lists(members, max_size=6)
)
policies = st.lists(bindings, max_size=6).map(make_policy)


def document(*members: str, role: str = READER, **more: object) -> dict[str, object]:
    return {"bindings": [{"role": role, "members": list(members), **more}]}


def refused(policy: object, kind: ResourceKind = ResourceKind.REPOSITORY) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as error:
        read_policy(policy, kind)
    return error.value


@given(policies)
def test_a_policy_reads_back_as_it_was_written(policy):
    assert read_policy(policy.to_document(), ResourceKind.PROJECT) == policy


@given(st.lists(bindings, max_size=6))
def test_bindings_of_one_role_are_joined_and_nothing_is_lost(given_bindings):
    made = make_policy(given_bindings)

    roles = [binding.role for binding in made.bindings]
    assert roles == sorted(set(roles))
    assert {(b.role, m) for b in made.bindings for m in b.members} == {
        (b.role, m) for b in given_bindings for m in b.members
    }
    assert all(binding.members for binding in made.bindings)


@given(policies, bindings, emails, st.sampled_from(sorted(PERMISSIONS)))
def test_another_binding_takes_nothing_away(policy, more, email, permission):
    who = user(email)
    larger = make_policy((*policy.bindings, more))

    before = decide(who, identities(who), permission, [("projects/p", policy)])
    after = decide(who, identities(who), permission, [("projects/p", larger)])

    assert after.allowed or not before.allowed


@given(policies, st.sampled_from(sorted(PERMISSIONS)))
def test_what_anybody_may_everybody_may(policy, permission):
    known = user("somebody@nowhere.org")
    where = [("projects/p", policy)]

    anonymous = decide(ANONYMOUS, identities(ANONYMOUS), permission, where)

    assert decide(known, identities(known), permission, where).allowed or not anonymous.allowed


@given(policies, members)
def test_a_member_that_goes_is_in_no_binding(policy, member):
    left = without_member(policy, member)

    gone = {(b.role, member) for b in policy.bindings if member in b.members}
    assert {(c.role, c.member) for c in changes(policy, left)} == gone
    assert not any(change.added for change in changes(policy, left))


@given(policies, policies)
def test_changes_lead_from_one_policy_to_the_other(before, after):
    pairs = {(b.role, m) for b in before.bindings for m in b.members}
    for change in changes(before, after):
        (pairs.add if change.added else pairs.discard)((change.role, change.member))

    assert pairs == {(b.role, m) for b in after.bindings for m in b.members}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["bindings", "role", "members", "version", "etag"]) | st.text(max_size=3), inner, max_size=4), max_leaves=12))  # fmt: skip
def test_any_json_is_a_policy_or_refused_in_words(value):
    with contextlib.suppress(InvalidRequestError):
        policy = read_policy(value, ResourceKind.PROJECT)
        assert all(binding.role in ROLES for binding in policy.bindings)


def test_the_reason_names_the_binding_that_decides():
    alice = user("alice@example.com")
    policy = Policy((Binding(READER, (str(alice),)),))

    assert decide(alice, identities(alice), PULL, [(REPOSITORY, policy)]).reason == (
        f"user:alice@example.com has {READER} on {REPOSITORY}"
    )
    assert decide(alice, identities(alice), PULL, ()).reason == (
        f"nothing gives user:alice@example.com {PULL}"
    )


def test_a_new_project_lets_its_own_agents_read():
    bound = default_policy("shop").bindings

    assert {b.role: b.members for b in bound} == {
        "roles/artifactregistry.serviceAgent": (str(registry_agent("shop")),),
        "roles/run.serviceAgent": (str(serving_agent("shop")),),
    }


def test_a_condition_is_refused_in_words():
    error = refused(document("allUsers", condition={"expression": "true"}))

    assert error.what == "policy.bindings[0].condition cannot be kept"
    assert "grant too much" in error.why


@pytest.mark.parametrize(
    ("policy", "what", "fix"),
    [
        (document("allUsers", role="roles/artifactregistry.readr"), "'roles/artifactregistry.readr' is no role", READER),
        (document("allUsers", role="reader"), "'reader' is no role", READER),
        (document("allUsers", role="projects/p/roles/mine"), "'projects/p/roles/mine' is no role", ""),
        (document("allUsers", role="roles/run.invoker"), "policy.bindings[0]: roles/run.invoker cannot be granted on a repository", ""),
        (document("allUsers", role=""), "policy.bindings[0].role is missing", "roles/artifactregistry.reader, for example"),
        (document("user:alice@example.com", "alice"), "policy.bindings[0].members[1]: 'alice' is no member", ""),
        (document("alice@example.com"), "policy.bindings[0].members[0]: 'alice@example.com' is no member", "user:alice@example.com"),
        (document("users:alice@example.com"), "policy.bindings[0].members[0]: 'users:alice@example.com' is no member", "user:alice@example.com"),
        ({"bindings": [{"role": READER, "member": "x"}]}, "policy.bindings[0] has no field 'member'", "condition, members, role"),
        ({"binding": []}, "policy has no field 'binding'", "bindings, etag, version"),
        ({"bindings": {}}, None, None),
        ({"version": 2}, "policy.version: 2 is no version", "1"),
        ({"auditConfigs": [{}]}, "policy.auditConfigs cannot be set", ""),
        ([], "policy is no JSON object", ""),
        (None, "policy is no JSON object", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(policy, what, fix):
    if what is None:
        assert read_policy(policy, ResourceKind.REPOSITORY) == Policy()
        return
    error = refused(policy)

    assert error.what == what
    assert error.fix == fix


def test_a_policy_has_a_limit():
    many = [f"user:u{n}@example.com" for n in range(1501)]

    assert refused(document(*many)).what == "policy: 1501 members are too many"


def test_an_etag_that_is_not_the_policys_is_a_concurrent_change():
    current = Policy(revision=3)

    check_etag(current, "")
    check_etag(current, current.etag)
    for etag in (Policy(revision=2).etag, "é", "x"):
        with pytest.raises(ConcurrentChangeError, match="concurrent policy changes"):
            check_etag(current, etag)
