import pytest

from hakobune.iam.errors import InvalidRequestError
from hakobune.iam.member import MemberKind, canonical_member, identities, parse_member
from hakobune.iam.principal import (
    ANONYMOUS,
    Principal,
    PrincipalKind,
    account_email,
    is_agent,
    parse_principal,
    project_number,
    project_of_account,
    registry_agent,
    service_account,
    serving_agent,
    user,
)


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("user:Alice@Example.com", MemberKind.USER, "alice@example.com"),
        ("group:team@example.com", MemberKind.GROUP, "team@example.com"),
        ("domain:Example.com", MemberKind.DOMAIN, "example.com"),
        ("allUsers", MemberKind.ALL_USERS, ""),
        ("allAuthenticatedUsers", MemberKind.ALL_AUTHENTICATED_USERS, ""),
        ("serviceAccount:ci@shop.iam.gserviceaccount.com", MemberKind.SERVICE_ACCOUNT, "ci@shop.iam.gserviceaccount.com"),
        ("deleted:serviceAccount:a@b.iam.gserviceaccount.com?uid=12", MemberKind.DELETED, "serviceAccount:a@b.iam.gserviceaccount.com?uid=12"),
    ],
)  # fmt: skip
def test_members_are_read_and_compared_in_lower_case(text, kind, value):
    assert parse_member(text) == (kind, value)
    assert canonical_member(canonical_member(text)) == canonical_member(text)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", ""),
        ("alice", ""),
        ("user:", ""),
        ("user:alice", ""),
        ("alice@example.com", "user:alice@example.com"),
        ("user:a@p.iam.gserviceaccount.com", "serviceAccount:a@p.iam.gserviceaccount.com"),
        ("a@p.iam.gserviceaccount.com", "serviceAccount:a@p.iam.gserviceaccount.com"),
        ("serviceaccount:a@p.iam.gserviceaccount.com", "serviceAccount:a@p.iam.gserviceaccount.com"),
        ("serviceAccount:a@example.com", ""),
        ("allUser", "allUsers"),
        ("allUsers:x", ""),
        ("AllUsers", "allUsers"),
        ("domain:example", ""),
        ("domain:-x.com", ""),
        ("group:team", ""),
        ("user:a@b..com", ""),
        ("user:a b@c.de", ""),
        ("principalSet://iam/x", ""),
        ("projectOwner:p", ""),
        ("owner", "user"),
        ("anonymous", ""),
    ],
)  # fmt: skip
def test_what_is_no_member_is_named(text, fix):
    with pytest.raises(InvalidRequestError) as error:
        parse_member(text)
    assert error.value.what == f"{text!r} is no member"
    assert error.value.why
    if fix != "user":
        assert error.value.fix == fix


def test_a_deleted_account_is_nobody():
    again = service_account("ci@shop.iam.gserviceaccount.com")

    assert "deleted:serviceAccount:ci@shop.iam.gserviceaccount.com?uid=1" not in identities(again)


def test_a_service_account_is_in_no_domain():
    account = service_account("ci@shop.iam.gserviceaccount.com")

    assert not any(member.startswith("domain:") for member in identities(account))


@pytest.mark.parametrize(
    "principal",
    [user("a@b.de"), service_account("ci@shop.iam.gserviceaccount.com"), ANONYMOUS, Principal(PrincipalKind.OWNER)],
)  # fmt: skip
def test_a_principal_reads_back_as_it_was_written(principal):
    assert parse_principal(str(principal)) == principal


@pytest.mark.parametrize("text", ["", "user:", "user:x", "owner:a@b.de", "root", "anonymous:x"])
def test_other_texts_name_no_principal(text):
    with pytest.raises(InvalidRequestError):
        parse_principal(text)


def test_a_user_cannot_have_a_service_accounts_address():
    with pytest.raises(InvalidRequestError, match="is a service account"):
        user("ci@shop.iam.gserviceaccount.com")


def test_a_projects_number_has_twelve_digits_and_follows_from_its_id():
    assert project_number("shop") == project_number("shop") != project_number("shop2")
    assert all(len(str(project_number(f"p{n}"))) == 12 for n in range(1000))


@pytest.mark.parametrize(
    "project", ["serverless-robot-prod", "gcp-sa-artifactregistry", "gcp-sa-x"]
)
def test_no_project_can_make_another_projects_agent(project):
    """Its accounts would have the agents' domain, and a name can look like a number."""
    with pytest.raises(InvalidRequestError, match="cannot be a project's id"):
        account_email(f"service-{project_number('shop')}", project)


def test_agents_are_told_from_accounts_by_their_domain():
    for agent in (serving_agent("shop"), registry_agent("shop")):
        assert is_agent(agent.email)
        assert project_of_account(agent.email) == ""
    assert not is_agent("ci@shop.iam.gserviceaccount.com")
    assert project_of_account("ci@shop.iam.gserviceaccount.com") == "shop"


@pytest.mark.parametrize(
    "name", ["short", "Builder", "-builder", "builder-", "1builder", "b" * 31, "a_builder"]
)
def test_an_accounts_name_follows_googles_rule(name):
    with pytest.raises(InvalidRequestError, match="cannot name a service account"):
        account_email(name, "shop")
