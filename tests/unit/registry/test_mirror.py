import pytest

from hakobune.errors import UsageError
from hakobune.registry.mirror import Mirrors

MIRRORS = Mirrors.parse("hub.test=demo/hub, ghcr.io=demo/ghcr 127.0.0.1:5001=demo/hub")


def test_a_host_name_without_a_path_stands_for_a_repository():
    name = MIRRORS.expand("library/nginx", host="hub.test:8080", known=False)

    assert name == "demo/hub/library/nginx"


def test_a_host_name_counts_even_if_the_name_looks_like_one_of_ours():
    assert MIRRORS.expand("demo/base/web", host="hub.test", known=True) == "demo/hub/demo/base/web"
    assert MIRRORS.expand("demo/hub/web", host="hub.test", known=True) == "demo/hub/web"


def test_a_namespace_selects_the_repository_if_the_name_does_not():
    assert (
        MIRRORS.expand("acme/web", host="localhost", namespace="ghcr.io", known=False)
        == "demo/ghcr/acme/web"
    )
    assert (
        MIRRORS.expand("demo/hub/web", host="localhost", namespace="ghcr.io", known=True)
        == "demo/hub/web"
    )
    assert (
        MIRRORS.expand("acme/web", host="localhost", namespace="quay.io", known=False) == "acme/web"
    )


def test_a_port_of_its_own_is_a_host_of_its_own():
    assert MIRRORS.expand("nginx", host="127.0.0.1:5001", known=False) == "demo/hub/nginx"
    assert MIRRORS.expand("nginx", host="127.0.0.1:5000", known=False) == "nginx"


@pytest.mark.parametrize("text", ["hub.test", "hub.test=demo", "=demo/hub", "hub.test=demo/hub/x"])
def test_an_entry_that_says_no_repository_is_named(text: str):
    with pytest.raises(UsageError, match="is no mirror"):
        Mirrors.parse(text)
