import pytest

from hakobune.distribution.redirect import (
    is_same_host,
    resolve_location,
    why_not_followed,
)


@pytest.mark.parametrize(
    ("url", "location", "target"),
    [
        ("https://r.test/v2/a", "/v2/b?x=1", "https://r.test/v2/b?x=1"),
        ("https://r.test/v2/a/", "b", "https://r.test/v2/a/b"),
        ("https://r.test/v2/a", "//s3.test/b", "https://s3.test/b"),
        ("https://r.test/v2/a", "http://r.test/v2/b", "https://r.test/v2/b"),
        ("https://r.test:5000/a", "http://r.test:5000/b", "https://r.test:5000/b"),
        ("https://r.test/v2/a", "http://other.test/b", "http://other.test/b"),
        ("http://r.test/v2/a", "http://r.test/b", "http://r.test/b"),
        ("https://r.test/v2/a", "/b c/\xc3\xa4?x=%2F", "https://r.test/b%20c/%C3%A4?x=%2F"),
        ("https://r.test/v2/a", "http://[r.test/b", "http://[r.test/b"),
    ],
)
def test_a_location_is_read_where_it_was_said(url: str, location: str, target: str):
    """A registry behind a proxy that speaks TLS for it does not know that."""
    assert resolve_location(url, location) == target


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("https://other.test/b", ""),
        ("http://other.test/b", "it does not speak TLS, the registry does"),
        ("file:///etc/passwd", "file is not a way to fetch"),
        ("https://other.test:99999/b", "it is no URL"),
        ("https://other.test:b/b", "it is no URL"),
        ("http://[r.test/b", "it is no URL"),
    ],
)
def test_tls_is_not_given_up(target: str, why: str):
    assert why_not_followed("https://r.test/v2/a", target, insecure=False) == why


@pytest.mark.parametrize(
    ("target", "same"),
    [
        ("http://r.test/b", True),
        ("https://R.test/b", True),
        ("https://r.test:444/b", False),
        ("http://r.test:8080/b", False),
        ("http://other.test/b", False),
    ],
)
def test_a_host_stays_itself_when_it_begins_to_speak_tls(target: str, same: bool):
    assert is_same_host("http://r.test/a", target) is same
    assert not is_same_host("https://r.test/a", "http://r.test/a")
    assert not is_same_host("http://r.test:5000/a", "https://r.test:5000/a")
