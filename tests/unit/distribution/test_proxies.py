import pytest

from hakobune.distribution.proxies import Proxies, Proxy
from hakobune.errors import HakoError

PROXY = "http://proxy.test:3128"
PARSED = Proxy(host="proxy.test", port=3128)


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("", "r.test", False),
        ("*", "r.test", True),
        ("x, *", "r.test", True),
        ("r.test", "r.test:5000", True),
        ("r.test", "a.r.test", True),
        ("R.Test", "r.TEST", True),
        ("r.test", "other.test", False),
        ("r.test", "bar.test", False),
        ("*bar.test", "foobar.test", False),
        (".test", "r.test", True),
        (".r.test", "r.test", False),
        ("*.test", "r.test", True),
        ("*.r.test", "r.test", False),
        ("r.test:5000", "r.test:5000", True),
        ("r.test:5000", "r.test:5001", False),
        ("r.test:443", "r.test", True),
        ("r.test:80", "r.test", False),
        (".test:443", "a.r.test", True),
        (":443", "r.test", False),
        ("10.0.0.0/8, x", "10.1.2.3:5000", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:5000", "10.1.2.3:5000", True),
        ("10.1.2.3:5000", "10.1.2.3", False),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/99", "10.1.2.3", False),
        ("10.0.0.0/8", "r.test", False),
        ("fd00::/8", "[fd00::5]:5000", True),
        ("fd00::5", "[fd00::5]:5000", True),
        ("[fd00::5]", "[fd00::5]", True),
        ("[fd00::5]:5000", "[fd00::5]:5000", True),
        ("[fd00::5]:5000", "[fd00::5]:5001", False),
        ("", "127.0.0.1:5000", True),
        ("", "[::1]:5000", True),
        ("", "localhost", True),
    ],
)
def test_who_is_reached_without_the_proxy(exceptions: str, host: str, direct: bool):
    proxies = Proxies.read({"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions})

    assert proxies.proxy_for("https", host) == (None if direct else PARSED)


def test_each_scheme_has_its_own_and_small_spellings_count():
    env = {"HTTPS_PROXY": PROXY, "https_proxy": "small.test:1", "HTTP_PROXY": "http://plain.test"}
    proxies = Proxies.read({**env, "NO_PROXY": "r.test", "no_proxy": "other.test"})

    assert proxies.proxy_for("https", "r.test") == Proxy(host="small.test", port=1)
    assert proxies.proxy_for("http", "r.test") == Proxy(host="plain.test", port=80)


def test_a_visitor_of_a_cgi_program_chooses_no_proxy():
    assert Proxies.read({"REQUEST_METHOD": "GET", "HTTP_PROXY": PROXY}) == Proxies()


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("proxy.test", Proxy(host="proxy.test", port=80)),
        ("https://proxy.test", Proxy(host="proxy.test", port=443, tls=True)),
        ("https://[fd00::1]:3129", Proxy(host="fd00::1", port=3129, tls=True)),
        ("http://me:p%40ss@p.test:1/", Proxy(host="p.test", port=1, user="me", password="p@ss")),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, proxy: Proxy):
    assert Proxy.parse(url) == proxy


@pytest.mark.parametrize("url", ["socks5://me:s3cret@p.test:1", "http://:1", "http://p.test:x"])
def test_a_proxy_that_is_none_is_told_without_its_password(url: str):
    with pytest.raises(HakoError, match="cannot use the proxy") as error:
        Proxy.parse(url)

    assert "s3cret" not in str(error.value) + error.value.why
    assert "https://HOST:PORT" in error.value.fix


def test_repr_shows_no_secret():
    proxies = Proxies(https="http://me:s3cret@p.test")

    assert "s3cret" not in repr((proxies, proxies.proxy_for("https", "r.test")))
