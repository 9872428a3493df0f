import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakobune.distribution.auth import why_not_trusted, with_scopes
from hakobune.distribution.challenge import Challenge, parse_challenges


def test_a_challenge_is_read_with_its_parameters():
    header = (
        'Bearer realm="https://auth.test/token",service="r.test",scope="repository:a/b:pull,push"'
    )

    assert parse_challenges([header]) == (
        Challenge(
            "bearer",
            {
                "realm": "https://auth.test/token",
                "service": "r.test",
                "scope": "repository:a/b:pull,push",
            },
        ),
    )


def test_several_challenges_come_in_one_header_or_in_several():
    one = parse_challenges(['Basic realm="a, \\"b\\"", Bearer realm=x,service=y'])
    two = parse_challenges(['Basic realm="a, \\"b\\""', "Bearer realm=x, service=y"])

    assert one == two
    assert [c.scheme for c in one] == ["basic", "bearer"]
    assert one[0].parameters == {"realm": 'a, "b"'}


def test_a_scheme_may_stand_alone():
    assert parse_challenges(["Negotiate", "Basic"]) == (Challenge("negotiate"), Challenge("basic"))


@given(st.lists(st.text(max_size=80), max_size=3))
def test_any_header_is_read_without_an_error(headers: list[str]):
    parse_challenges(headers)


@pytest.mark.parametrize(
    ("realm", "base", "trusted"),
    [
        ("https://auth.docker.io/token", "https://registry-1.docker.io", True),
        ("https://r.test/token", "https://r.test", True),
        ("http://r.test/token", "https://r.test", False),
        ("http://auth.test/token", "http://r.test", False),
        ("http://127.0.0.1:5001/token", "http://127.0.0.1:5000", True),
        ("http://r.test:5001/token", "http://r.test:5000", True),
        ("https://169.254.169.254/token", "https://r.test", False),
        ("https://10.0.0.1/token", "https://r.test", False),
        ("https://10.0.0.1/token", "https://10.0.0.2", True),
        ("https://localhost/token", "https://r.test", False),
        ("https://[::1]/token", "https://r.test", False),
        ("https://u:p@auth.test/token", "https://r.test", False),
        ("file:///etc/passwd", "https://r.test", False),
        ("", "https://r.test", False),
    ],
)
def test_which_token_servers_get_a_password(realm: str, base: str, trusted: bool):
    assert (why_not_trusted(realm, base) == "") is trusted


def test_what_a_challenge_asks_for_is_added_to_what_we_need():
    ours = ("repository:a/b:pull,push",)

    assert with_scopes(ours, "") == ours
    assert with_scopes(ours, "repository:a/b:pull") == ours
    assert with_scopes(ours, "repository:a/b:delete registry:catalog:*") == (
        *ours,
        "repository:a/b:delete",
        "registry:catalog:*",
    )
