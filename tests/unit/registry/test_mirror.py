from hakobune.registry.mirror import Mirrors
from hakobune.registry.route import Kind, Route, find_route

MIRRORS = Mirrors.of(
    [
        ("hub.test", "demo", "hub"),
        ("ghcr.io", "demo", "ghcr"),
        ("127.0.0.1:5001", "demo", "hub"),
    ]
)


def test_a_host_name_without_a_path_stands_for_a_repository():
    route = MIRRORS.route(find_route("/v2/library/nginx/manifests/latest"), "hub.test:8080")

    assert route == Route(Kind.MANIFEST, "demo/hub/library/nginx", "latest")
    assert MIRRORS.expand("library/nginx", host="HUB.test") == "demo/hub/library/nginx"


def test_a_host_name_counts_even_if_the_name_looks_like_one_of_ours():
    assert MIRRORS.expand("demo/base/web", host="hub.test") == "demo/hub/demo/base/web"
    assert MIRRORS.expand("demo/hub/web", host="hub.test") == "demo/hub/web"


def test_what_is_no_image_is_the_same_at_every_host():
    for path in ("/v2/", "/v2/_catalog", "/token", "/healthz"):
        assert MIRRORS.route(find_route(path), "hub.test") == find_route(path)


def test_a_namespace_is_looked_up_by_its_name():
    assert MIRRORS.by_namespace("ghcr.io") == ("demo", "ghcr")
    assert MIRRORS.by_namespace("quay.io") is None


def test_a_port_of_its_own_is_a_host_of_its_own():
    assert MIRRORS.expand("nginx", host="127.0.0.1:5001") == "demo/hub/nginx"
    assert MIRRORS.expand("nginx", host="127.0.0.1:5000") == "nginx"
