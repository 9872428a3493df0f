import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.distribution.own_registry import OwnRegistry
from hakobune.distribution.registries import Endpoint, Registries, is_loopback
from hakobune.errors import HakoError
from hakobune.oci.reference import Reference
from hakobune.settings import Settings
from hakobune.support.files import DocumentError


def read(folder: Path, text: str) -> Registries:
    """The configuration with that registries.conf, and nothing of this machine's."""
    path = folder / "registries.conf"
    path.write_text(text)
    env = {"CONTAINERS_REGISTRIES_CONF": str(path), "HOME": str(folder)}
    return Registries.read(env, folder / "home")


def places(registries: Registries, name: str, *, pull: bool = True) -> list[str]:
    """`HOST/REPOSITORY` of each, with what is special about it."""

    def shown(endpoint: Endpoint) -> str:
        marks = [word for word in ("insecure", "mirror") if getattr(endpoint, word)]
        return " ".join([f"{endpoint.host}/{endpoint.repository}", *marks])

    return [shown(e) for e in registries.endpoints(Reference.parse(name), pull=pull)]


def test_without_configuration_there_is_the_registry_in_the_name():
    assert places(Registries(), "debian:13") == ["registry-1.docker.io/library/debian"]
    assert places(Registries(), "r.test:5000/a/b") == ["r.test:5000/a/b"]


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "x.localhost"],
)
def test_loopback_may_be_plain_http_as_with_docker(host: str):
    assert is_loopback(host)
    (endpoint,) = Registries().endpoints(Reference("localhost:1", "a", "b"), pull=True)
    assert (endpoint.insecure, endpoint.plain_first) == (True, True)


@pytest.mark.parametrize("host", ["example.com", "10.0.0.1", "localhost.example.com", "128.0.0.1"])
def test_other_hosts_may_not(host: str):
    assert not is_loopback(host)


MIRRORED = """
[[registry]]
prefix = "r.test/team"
location = "new.test/moved"
[[registry.mirror]]
location = "m1.test/cache"
[[registry.mirror]]
location = "m2.test"
insecure = true
pull-from-mirror = "digest-only"
"""


def test_mirrors_are_asked_first_and_are_never_pushed_to(tmp_path: Path):
    registries = read(tmp_path, MIRRORED)

    assert places(registries, "r.test/team/web:1") == [
        "m1.test/cache/web mirror",
        "new.test/moved/web",
    ]
    assert places(registries, f"r.test/team/web@sha256:{'0' * 64}") == [
        "m1.test/cache/web mirror",
        "m2.test/web insecure mirror",
        "new.test/moved/web",
    ]
    assert places(registries, "r.test/team/web:1", pull=False) == ["new.test/moved/web"]
    assert places(registries, "r.test/teams/web:1") == ["r.test/teams/web"]


def test_the_longest_prefix_counts_and_a_later_file_replaces(tmp_path: Path):
    registries = read(
        tmp_path,
        """
        [[registry]]
        location = "r.test"
        insecure = true
        [[registry]]
        location = "r.test/safe"
        """,
    )

    assert places(registries, "r.test/x:1") == ["r.test/x insecure"]
    assert places(registries, "r.test/safe/x:1") == ["r.test/safe/x"]
    drop_in = tmp_path / "registries.conf.d"
    drop_in.mkdir()
    (drop_in / "10.conf").write_text('[[registry]]\nlocation = "r.test"\n')
    env = {"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")}
    assert places(Registries.read(env, tmp_path), "r.test/x:1") == ["r.test/x"]


def test_a_table_may_be_of_all_subdomains(tmp_path: Path):
    registries = read(
        tmp_path,
        """
        [[registry]]
        prefix = "*.r.test"
        insecure = true
        [[registry.mirror]]
        location = "m.test/all"
        """,
    )

    assert places(registries, "a.r.test:5000/x/y:1") == [
        "m.test/all/x/y mirror",
        "a.r.test:5000/x/y insecure",
    ]
    assert places(registries, "r.test/x:1") == ["r.test/x"]


def test_a_blocked_registry_is_an_error(tmp_path: Path):
    registries = read(tmp_path, '[[registry]]\nlocation = "bad.test"\nblocked = true\n')

    with pytest.raises(HakoError, match="is not used") as error:
        registries.endpoints(Reference.parse("bad.test/x"), pull=True)

    assert "blocks 'bad.test'" in error.value.why


def test_docker_s_mirrors_are_for_the_hub_alone_and_its_networks_are_insecure():
    registries = Registries(
        hub_mirrors=("https://mirror.test/", "http://plain.test:5000"),
        insecure=("10.0.0.0/8", "old.test"),
    )

    assert places(registries, "debian") == [
        "mirror.test/library/debian mirror",
        "plain.test:5000/library/debian insecure mirror",
        "registry-1.docker.io/library/debian",
    ]
    assert places(registries, "10.1.2.3:5000/x") == ["10.1.2.3:5000/x insecure"]
    assert places(registries, "old.test:5000/x") == ["old.test:5000/x insecure"]
    assert places(registries, "11.1.2.3:5000/x") == ["11.1.2.3:5000/x"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[registry]]\n", "neither `prefix` nor `location`"),
        ('[registry]\nlocation = "x"\n', "[[registry]]"),
        ("[[registry]]\nlocation = 5\n", "location must be a text"),
        ('[[registry]]\nlocation = "x"\ninsecure = "yes"\n', "insecure must be true or false"),
        ("[[registry\n", "not TOML"),
    ],
)
def test_a_file_that_cannot_be_understood_is_named(tmp_path: Path, text: str, why: str):
    with pytest.raises(DocumentError) as error:
        read(tmp_path, text)

    assert str(tmp_path / "registries.conf") in error.value.what
    assert why in error.value.why


def test_certificates_are_found_by_host_and_port(tmp_path: Path):
    folder = tmp_path / "certs.d" / "r.test:5000"
    folder.mkdir(parents=True)
    for name in ("a.crt", "b.crt", "client.cert", "client.key"):
        (folder / name).touch()
    registries = Registries(certificate_folders=(tmp_path / "none", tmp_path / "certs.d"))

    found = registries.tls_files("r.test:5000")

    assert [path.name for path in found.authorities] == ["a.crt", "b.crt"]
    assert found.certificate == folder / "client.cert"
    assert found.key == folder / "client.key"
    assert registries.tls_files("r.test").authorities == ()


OWN = OwnRegistry(
    hosts=frozenset({"localhost:8080", "localhost:18180"}),
    socket=Path("/nowhere/registry.sock"),
    api=Path("/nowhere/api.sock"),
    incoming=Path("/nowhere/incoming"),
)


def test_the_own_registry_has_the_names_of_its_addresses():
    named = OwnRegistry.of(
        Settings.from_environment(
            {"HAKO_HOME": "/h", "HAKO_REGISTRY_LISTEN": "reg.test:5000"}, uid=0
        )
    )

    assert named.hosts == {"localhost:8080", "127.0.0.1:8080", "[::1]:8080", "reg.test:5000"}
    assert named.socket == Path("/h/run/registry.sock")


def test_the_own_registry_is_reached_by_its_socket_if_that_may_be_opened(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        registries = Registries(own=replace(OWN, socket=tmp_path / "s"))

        (endpoint,) = registries.endpoints(Reference.parse("localhost:18180/p/r/i"), pull=True)
        (other,) = registries.endpoints(Reference.parse("localhost:5000/p/r/i"), pull=True)

    assert (endpoint.socket, endpoint.repository) == (tmp_path / "s", "p/r/i")
    assert other.socket is None


def test_a_name_without_project_or_repository_is_explained(tmp_path: Path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        registries = Registries(own=replace(OWN, socket=tmp_path / "s"))

        for name in ("localhost:8080/web:1", "localhost:8080/hako/web:1"):
            with pytest.raises(HakoError, match="is no name of an image") as refused:
                registries.endpoints(Reference.parse(name), pull=False)
            assert refused.value.fix == "localhost:8080/hako/apps/web"


def test_without_its_socket_the_own_registry_is_one_like_others():
    (endpoint,) = Registries(own=OWN).endpoints(Reference.parse("localhost:8080/p/r/i"), pull=False)

    assert (endpoint.host, endpoint.socket) == ("localhost:8080", None)
