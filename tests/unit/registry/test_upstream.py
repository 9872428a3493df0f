import pytest

from hakobune.registry.upstream import (
    OwnUpstream,
    RegistryUpstream,
    UpstreamConfigError,
    as_own,
    parse_upstream,
)


def test_official_images_of_the_hub_lie_under_library():
    hub = parse_upstream("DOCKER_HUB")

    assert isinstance(hub, RegistryUpstream)
    assert hub.host == "registry-1.docker.io"
    assert hub.namespace == "docker.io"
    assert hub.repository("nginx") == "library/nginx"
    assert hub.repository("library/nginx") == "library/nginx"
    assert hub.repository("grafana/grafana") == "grafana/grafana"


@pytest.mark.parametrize(
    "uri",
    [
        "https://registry-1.docker.io",
        "docker.io",
        "https://index.docker.io/v2/",
        "https://DOCKER.io",
    ],
)
def test_the_hub_by_any_of_its_names_is_the_hub(uri: str):
    assert parse_upstream(uri) == RegistryUpstream(host="registry-1.docker.io")


def test_a_path_in_the_url_stands_before_every_image():
    upstream = parse_upstream("https://registry.test:5000/v2/team/base/")

    assert upstream == RegistryUpstream(host="registry.test:5000", prefix="team/base")
    assert upstream.repository("web") == "team/base/web"


def test_a_prefix_on_the_hub_is_an_organisation_there():
    upstream = parse_upstream("https://docker.io/grafana")

    assert isinstance(upstream, RegistryUpstream)
    assert upstream.repository("loki") == "grafana/loki"


def test_plain_http_is_spoken_where_the_url_says_so_and_on_loopback():
    assert parse_upstream("http://registry.test") == RegistryUpstream(
        host="registry.test", plain=True
    )
    assert parse_upstream("127.0.0.1:5000") == RegistryUpstream(host="127.0.0.1:5000", plain=True)
    assert parse_upstream("https://127.0.0.1:5000") == RegistryUpstream(host="127.0.0.1:5000")


def test_another_repository_here_is_named_by_its_resource():
    assert parse_upstream("projects/demo/locations/eu/repositories/base") == OwnUpstream(
        project="demo", repository_id="base"
    )


def test_the_clouds_host_names_mean_the_repository_here_or_else_the_cloud():
    upstream = parse_upstream("https://eu-docker.pkg.dev/demo/base/team")

    assert upstream == OwnUpstream(
        project="demo",
        repository_id="base",
        prefix="team",
        otherwise=RegistryUpstream(host="eu-docker.pkg.dev", prefix="demo/base/team"),
    )
    assert upstream.image("web") == "team/web"


def test_our_own_address_is_not_asked_by_http():
    upstream = parse_upstream("http://localhost:8080/demo/base")

    assert isinstance(as_own(upstream, ("localhost:8080",)), OwnUpstream)
    assert as_own(upstream, ("localhost:9090",)) == upstream


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ftp://registry.test",
        "https://",
        "https://user:secret@registry.test",
        "https://registry.test/UPPER",
        "https://registry.test/a?b=c",
        "https://registry.test/../x",
        "https://reg istry.test",
        "https://registry.test\r\nHost: x",
    ],
)
def test_what_is_no_upstream_is_refused_without_quoting_a_password(text: str):
    with pytest.raises(UpstreamConfigError) as caught:
        parse_upstream(text)

    assert "secret" not in str(caught.value)
