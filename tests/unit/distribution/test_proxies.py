import pytest

from hakobune.distribution.proxies import Proxies

PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("", "r.test", False),
        ("*", "r.test", True),
        ("r.test", "r.test:5000", True),
        ("r.test", "a.r.test", True),
        ("r.test", "other.test", False),
        ("r.test", "bar.test", False),
        (".test", "r.test", True),
        (".r.test", "r.test", False),
        ("*.test", "r.test", True),
        ("r.test:5000", "r.test:5000", True),
        ("r.test:5000", "r.test:5001", False),
        ("10.0.0.0/8, x", "10.1.2.3:5000", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("", "127.0.0.1:5000", True),
        ("", "localhost", True),
    ],
)
def test_who_is_reached_without_the_proxy(exceptions: str, host: str, direct: bool):
    proxies = Proxies.read({"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions})

    assert proxies.proxy_for("https", host) == ("" if direct else PROXY)


def test_each_scheme_has_its_own_and_small_spellings_count():
    proxies = Proxies.read(
        {"HTTPS_PROXY": PROXY, "https_proxy": "small.test:1", "HTTP_PROXY": "http://plain.test"}
    )

    assert proxies.proxy_for("https", "r.test") == "http://small.test:1"
    assert proxies.proxy_for("http", "r.test") == "http://plain.test"


def test_a_visitor_of_a_cgi_program_chooses_no_proxy():
    assert Proxies.read({"REQUEST_METHOD": "GET", "HTTP_PROXY": PROXY}) == Proxies()
