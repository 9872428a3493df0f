"""Through a proxy: plain or spoken to by TLS, to registries with TLS and without, and what is told when it does not work."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hakobune.distribution.access import Access
from hakobune.distribution.errors import NoAnswerError, RegistryError
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import Registries
from hakobune.distribution.transfer import pull, push
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress
from tests.forward_proxy import forward_proxy
from tests.hostile_registry import HostileRegistry, cut_after, hostile_registry, status
from tests.real_registry import Tls, make_tls
from tests.transfer_world import AMD64, SECRET, access, add_image, assert_whole, needs_basic

WEB = Reference.parse("reg.invalid/shop/web:1")  # a name that no DNS has: only the proxy gets there
AUTHORIZATION = b"\r\nProxy-Authorization: Basic bWU6cEBzcw==\r\n"  # me:p@ss


@dataclass(frozen=True)
class World:
    """A registry with TLS that is called `reg.invalid`, and what proxies are spoken to with."""

    registry: HostileRegistry
    tls: Tls
    folder: Path

    def access(self, proxy: str, *, trusted: bool = True) -> Access:
        """By way of *proxy*, an URL.

        Args:
            trusted: whether the authority of its certificate is known.
        """
        folder = self.folder / "certs.d"
        for host in ("reg.invalid", proxy.rpartition("@")[2].rpartition("/")[2]):
            (folder / host).mkdir(parents=True, exist_ok=True)
            if trusted or host == "reg.invalid":
                (folder / host / "ca.crt").write_bytes(self.tls.authority.read_bytes())
        return replace(
            access(self.folder, auths={"reg.invalid": f"ci:{SECRET}"}),
            registries=Registries(certificate_folders=(folder,)),
            proxies=Proxies(https=proxy),
        )


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return make_tls(tmp_path_factory.mktemp("tls"), "DNS:reg.invalid,IP:127.0.0.1")


@pytest.fixture
def world(tls: Tls, tmp_path: Path) -> Iterator[World]:
    with hostile_registry((tls.certificate, tls.key)) as registry:
        yield World(registry, tls, tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home") as store:
        yield store


@pytest.mark.parametrize("with_tls", [True, False], ids=["by TLS", "plain"])
def test_tls_goes_through_a_proxy_to_the_end(store: Store, world: World, with_tls: bool) -> None:
    """Both ways, in pieces and whole, and a connection is used again."""
    tls = world.tls if with_tls else None
    blob = add_image(world.registry, layers=3, size=2_000_000)
    world.registry.fail("GET", blob, cut_after(1_000_000), times=1)
    for method in ("GET", "HEAD"):
        world.registry.fail(method, ".*", needs_basic)
    with forward_proxy(world.registry.host, tls=tls, user="me:p@ss") as (proxy, heads):
        where = world.access(f"{'https' if tls else 'http'}://me:p%40ss@{proxy}")

        image = pull(store, WEB, AMD64, SilentProgress(), access=where)
        push(
            store, image, Reference.parse("reg.invalid/shop/web:2"), SilentProgress(), access=where
        )

    assert_whole(store, image)
    assert world.registry.manifests["2"][1] == image.raw
    assert all(head.startswith(b"CONNECT reg.invalid:443 ") for head in heads)
    assert all(AUTHORIZATION in head for head in heads)
    assert not any(b"\r\nAuthorization" in head for head in heads)
    assert not any("proxy-authorization" in seen.headers for seen in world.registry.seen)
    assert len(heads) < len(world.registry.seen) / 2


@pytest.mark.parametrize("with_tls", [True, False], ids=["by TLS", "plain"])
def test_a_proxy_is_asked_for_the_whole_url_of_plain_http(
    store: Store, tls: Tls, tmp_path: Path, with_tls: bool
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text('[[registry]]\nlocation = "reg.invalid"\ninsecure = true\n')
    env = {"CONTAINERS_REGISTRIES_CONF": str(conf), "HOME": str(tmp_path)}
    with (
        hostile_registry() as registry,
        forward_proxy(registry.host, tls=tls if with_tls else None, user="me:p@ss") as (
            proxy,
            heads,
        ),
    ):
        add_image(registry)
        authority = tmp_path / "certs.d" / proxy / "ca.crt"
        authority.parent.mkdir(parents=True)
        authority.write_bytes(tls.authority.read_bytes())
        where = replace(
            access(tmp_path),
            registries=Registries.read(env, tmp_path),
            proxies=Proxies(http=f"{'https' if with_tls else 'http'}://me:p%40ss@{proxy}"),
        )

        image = pull(store, WEB, AMD64, SilentProgress(), access=where)

    assert_whole(store, image)
    assert heads[0].startswith(b"GET http://reg.invalid/v2/ ")
    assert all(b"\r\nHost: reg.invalid\r\n" in head and AUTHORIZATION in head for head in heads)


@pytest.mark.parametrize("with_tls", [True, False], ids=["by TLS", "plain"])
def test_a_proxy_that_wants_a_password_is_told_how_to_give_it(
    store: Store, world: World, with_tls: bool
) -> None:
    with forward_proxy(
        world.registry.host, tls=world.tls if with_tls else None, user="me:p@ss"
    ) as (proxy, heads):
        scheme = "https" if with_tls else "http"

        with pytest.raises(NoAnswerError) as error:
            pull(store, WEB, AMD64, SilentProgress(), access=world.access(f"{scheme}://{proxy}"))

    assert error.value.why.endswith("did not connect us to reg.invalid: it wants to know who asks (407)")  # fmt: skip
    assert error.value.fix == f"HTTPS_PROXY={scheme}://USER:PASSWORD@{proxy}"
    assert len(heads) == 1  # asking again does not help


def test_a_wrong_password_for_the_proxy_is_told_with_the_user_alone(
    store: Store, world: World
) -> None:
    with forward_proxy(world.registry.host, tls=world.tls, user="me:p@ss") as (proxy, _):
        where = world.access(f"https://me:{SECRET}@{proxy}")

        with pytest.raises(NoAnswerError) as error:
            pull(store, WEB, AMD64, SilentProgress(), access=where)

    assert "it does not accept the user 'me' (407)" in error.value.why
    assert "%40" in error.value.fix
    assert SECRET not in f"{error.value}{error.value!r}{error.value.why}{error.value.fix}"


def test_a_plain_request_that_a_proxy_refuses_is_told(store: Store, tmp_path: Path) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text('[[registry]]\nlocation = "reg.invalid"\ninsecure = true\n')
    env = {"CONTAINERS_REGISTRIES_CONF": str(conf), "HOME": str(tmp_path)}
    with hostile_registry() as proxy:
        proxy.fail("GET", ".*", status(407))
        proxy.fail("HEAD", ".*", status(407))
        where = replace(
            access(tmp_path),
            registries=Registries.read(env, tmp_path),
            proxies=Proxies(http=f"http://{proxy.host}"),
        )

        with pytest.raises(RegistryError) as error:
            pull(store, WEB, AMD64, SilentProgress(), access=where)

    assert "the proxy on the way to reg.invalid wants to know who asks" in error.value.why
    assert "HTTP_PROXY=http://USER:PASSWORD" in error.value.fix


def test_a_proxy_that_does_not_allow_the_registry_is_told(store: Store, world: World) -> None:
    with forward_proxy(world.registry.host, tls=world.tls, refuse=b"403 Forbidden") as (proxy, _):
        with pytest.raises(NoAnswerError) as error:
            pull(store, WEB, AMD64, SilentProgress(), access=world.access(f"https://{proxy}"))

    assert "it does not allow that (403 Forbidden)" in error.value.why
    assert "NO_PROXY" in error.value.fix


def test_a_proxy_whose_certificate_nobody_knows_is_not_used(store: Store, world: World) -> None:
    with forward_proxy(world.registry.host, tls=world.tls, user="me:p@ss") as (proxy, heads):
        where = world.access(f"https://me:{SECRET}@{proxy}", trusted=False)

        with pytest.raises(NoAnswerError) as error:
            pull(store, WEB, AMD64, SilentProgress(), access=where)

    assert "its certificate is not one that this machine trusts" in error.value.why
    assert f"certs.d/{proxy}/ca.crt" in error.value.fix
    assert heads == []


def test_a_registry_whose_certificate_nobody_knows_is_told_through_the_proxy_too(
    store: Store, world: World
) -> None:
    with forward_proxy(world.registry.host, tls=world.tls) as (proxy, _):
        where = world.access(f"https://{proxy}")
        (world.folder / "certs.d" / "reg.invalid" / "ca.crt").unlink()

        with pytest.raises(NoAnswerError) as error:
            pull(store, WEB, AMD64, SilentProgress(), access=where)

    assert error.value.why.startswith("the certificate of reg.invalid is signed by an authority")


def test_a_proxy_that_speaks_no_tls_is_told(store: Store, world: World) -> None:
    with hostile_registry() as proxy:  # any server without TLS
        with pytest.raises(NoAnswerError) as error:
            pull(store, WEB, AMD64, SilentProgress(), access=world.access(f"https://{proxy.host}"))

    assert error.value.why.endswith("it does not speak TLS")
    assert error.value.fix.startswith(f"HTTPS_PROXY=http://{proxy.host}")


def test_a_proxy_that_is_not_there_is_named_as_the_reason(store: Store, tmp_path: Path) -> None:
    where = replace(access(tmp_path), proxies=Proxies(https="http://127.0.0.1:1"), attempts=2)

    with pytest.raises(NoAnswerError) as error:
        pull(store, WEB, AMD64, SilentProgress(), access=where)

    assert error.value.why == (
        "the proxy 127.0.0.1:1 did not connect us to reg.invalid: Connection refused"
    )
    assert "HTTPS_PROXY" in error.value.fix


def test_loopback_is_reached_without_the_proxy(store: Store, world: World) -> None:
    add_image(world.registry)
    with forward_proxy("127.0.0.1:1", tls=world.tls) as (proxy, heads):
        where = world.access(f"https://{proxy}")
        name = Reference.parse(f"{world.registry.host}/shop/web:1")

        assert_whole(store, pull(store, name, AMD64, SilentProgress(), access=where))

    assert heads == []
