"""Images go to and fro between us, real registries and the tools that others use, and stay what they are."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.distribution.access import Access
from hakobune.distribution.client import referrers_tag
from hakobune.distribution.credentials import CredentialFiles
from hakobune.distribution.errors import NotThereError, RegistryError
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import Registries
from hakobune.distribution.transfer import copy, open_repository, pull, push, resolve
from hakobune.oci import descriptor as media
from hakobune.oci.descriptor import Descriptor, encode_document
from hakobune.oci.digest import Digest
from hakobune.oci.layer import Directory, File
from hakobune.oci.manifest import Image, Index, make_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import SilentProgress
from tests.image_maker import a_layer, an_image, an_index_by_sha512
from tests.real_registry import (
    PASSWORD,
    USER,
    docker_daemon,
    go_tool,
    make_tls,
    registry,
    token_server,
)
from tests.registry_server import hako_registry

pytestmark = pytest.mark.needs_root  # layers are unpacked with their owners

AMD64 = Platform("linux", "amd64")
QUIET = SilentProgress()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """On a disk, and short."""
    made = Path(tempfile.mkdtemp(prefix="hk-", dir="/var/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(
    scope="module",
    params=["docker-registry", pytest.param("distribution 3", marks=pytest.mark.slow)],
)
def host(folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A registry that lets everybody in."""
    program = request.param if request.param == "docker-registry" else go_tool("registry")
    with registry(folder / request.param.replace(" ", "-"), program=program) as host:
        yield host


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "home") as store:
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "other") as store:
        yield store


def access(tmp_path: Path, *, user: str = "", password: str = PASSWORD, host: str = "") -> Access:
    path = tmp_path / "auth.json"
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}} if user else {}}))
    return Access(
        registries=Registries(certificate_folders=(tmp_path / "certs.d",)),
        credentials=CredentialFiles((path,), {}),
        proxies=Proxies(),
    )


def some_layers(store: Store) -> Image:
    """An image of three layers that nobody has seen before: tools remember where they met one."""
    big = a_layer(store, os.urandom(3_000_000))
    small = a_layer(store, os.urandom(10))
    deep = a_layer(
        store, parts=(Directory(name="/app"), File(name="/app/deep", content=os.urandom(4) * 1000))
    )
    return an_image(store, "web:1", layers=[big, small, deep])


def trees(store: Store, image: Image) -> list[list[tuple[str, bytes]]]:
    """Every file with its content, by layer."""
    return [
        [
            (str(path.relative_to(snapshot.tree)), path.read_bytes())
            for path in sorted(snapshot.tree.rglob("*"))
            if path.is_file()
        ]
        for snapshot in store.snapshots(image)
    ]


def run(*arguments: str, **options: object) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload] # cwd and env
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}{done.stdout}"
    return str(done.stdout).strip()


# To and fro


def test_what_is_pushed_is_pulled_unchanged(
    host: str, store: Store, other: Store, tmp_path: Path
) -> None:
    image = some_layers(store)
    name = Reference.parse(f"{host}/to/fro:1")

    assert push(store, image, name, QUIET, access=access(tmp_path)) == image.digest
    pulled = pull(other, name, AMD64, QUIET, access=access(tmp_path))

    assert pulled.raw == image.raw
    assert trees(other, pulled) == trees(store, image)
    assert other.verify() == ()
    assert resolve(other, name, QUIET, access=access(tmp_path)) == image.digest


def test_a_layer_that_a_neighbour_has_is_mounted(
    host: str, store: Store, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from hakobune.progress import RecordedProgress

    image = some_layers(store)
    first = Reference.parse(f"{host}/mount/first:1")
    push(store, image, first, QUIET, access=access(tmp_path))
    store.tag(image.digest, first)
    progress = RecordedProgress()

    push(store, image, Reference.parse(f"{host}/mount/second:1"), progress, access=access(tmp_path))

    taken = [text for text in progress.texts("step") if "taken over from mount/first" in text]
    assert len(taken) == 3


def test_an_index_is_pushed_whole_and_pulled_by_platform_or_whole(
    host: str, store: Store, other: Store, tmp_path: Path
) -> None:
    amd64 = an_image(store, content=b"amd64")
    raw_config = amd64.raw_config.replace(b'"amd64"', b'"arm64"')
    layer = amd64.manifest.layers
    config = store.put_blob(raw_config, media.CONFIG)
    from hakobune.oci.manifest import make_manifest

    arm64 = store.put_image(encode_document(make_manifest(config, layer, {})), raw_config)
    index = make_index([_entry(amd64), _entry(arm64)], {})
    name = Reference.parse(f"{host}/index/web:1")
    digest = store.put_index(encode_document(index), names=(name,))

    push(store, digest, name, QUIET, access=access(tmp_path))
    one = pull(other, name, Platform("linux", "arm64"), QUIET, access=access(tmp_path))
    assert one.digest == arm64.digest
    assert not other.has_blob(amd64.digest)
    pull(other, name, AMD64, QUIET, access=access(tmp_path), all_platforms=True)

    assert isinstance(other.find_index(name), Index)
    assert other.find_digest(name) == digest
    for image in (amd64, arm64):
        found = other.find_image(name, image.platform)
        assert found is not None
        assert found.digest == image.digest
    assert other.verify() == ()


def _entry(image: Image) -> Descriptor:
    return Descriptor(
        media_type=media.MANIFEST,
        digest=image.digest,
        size=len(image.raw),
        platform=image.platform,
    )


def test_a_copy_goes_from_registry_to_registry(
    host: str, folder: Path, store: Store, other: Store, tmp_path: Path
) -> None:
    image = some_layers(store)
    source = Reference.parse(f"{host}/copy/web:1")
    push(store, image, source, QUIET, access=access(tmp_path))

    with registry(folder / "second") as second:
        for target in (f"{second}/copied:1", f"{host}/copied/same-registry:1"):
            name = Reference.parse(target)
            digest = copy(source, name, QUIET, home=tmp_path, access=access(tmp_path))
            assert digest == image.digest
            assert pull(other, name, AMD64, QUIET, access=access(tmp_path)).raw == image.raw


def test_tags_are_listed_and_a_digest_is_deleted_with_its_tags(
    host: str, store: Store, tmp_path: Path
) -> None:
    image = an_image(store)
    for tag in ("a", "b", "c"):
        push(
            store, image, Reference.parse(f"{host}/list/web:{tag}"), QUIET, access=access(tmp_path)
        )
    name = Reference.parse(f"{host}/list/web")

    with open_repository(
        name, QUIET, home=tmp_path, what="x", actions="pull,push,delete", access=access(tmp_path)
    ) as repository:
        assert sorted(repository.tags()) == ["a", "b", "c"]
        repository.delete_manifest(str(image.digest))
        assert repository.head_manifest("a") is None
        with pytest.raises(NotThereError):
            repository.get_manifest("b")


def test_referrers_are_found_by_the_fallback_tag(host: str, store: Store, tmp_path: Path) -> None:
    image = an_image(store)
    name = Reference.parse(f"{host}/refer/web:1")
    push(store, image, name, QUIET, access=access(tmp_path))
    signature = Descriptor(
        media_type=media.MANIFEST,
        digest=image.digest,
        size=len(image.raw),
        artifact_type="application/example",
    )

    with open_repository(
        name, QUIET, home=tmp_path, what="x", actions="pull,push", access=access(tmp_path)
    ) as repository:
        assert repository.referrers(image.digest) == ()
        raw = encode_document(make_index([signature], {}))
        repository.put_manifest(f"sha256-{image.digest.hex}", raw, media.INDEX)
        assert repository.referrers(image.digest) == (signature,)
        assert repository.referrers(image.digest, artifact_type="other") == ()


def test_a_copy_takes_along_what_refers_to_the_image(
    host: str, folder: Path, store: Store, tmp_path: Path
) -> None:
    image = an_image(store)
    source = Reference.parse(f"{host}/signed/web:1")
    push(store, image, source, QUIET, access=access(tmp_path))
    subject = Descriptor(media_type=media.MANIFEST, digest=image.digest, size=len(image.raw))
    sbom = _referring(image, subject, "application/spdx+json")
    signature = _referring(image, sbom[0], "application/example.signature")
    with open_repository(
        source, QUIET, home=tmp_path, what="x", actions="pull,push", access=access(tmp_path)
    ) as repository:
        for (entry, raw), of in ((sbom, image.digest), (signature, sbom[0].digest)):
            repository.put_manifest(str(entry.digest), raw, media.MANIFEST)
            index = encode_document(make_index([entry], {}))
            repository.put_manifest(referrers_tag(of), index, media.INDEX)
        cosign = f"{referrers_tag(image.digest)}.sig"
        repository.put_manifest(cosign, image.raw, media.MANIFEST)

    with registry(folder / "signed") as second:
        target = Reference.parse(f"{second}/signed:1")
        copy(source, target, QUIET, home=tmp_path, access=access(tmp_path))
        for _ in range(2):  # the second time nothing is left to do
            copy(source, target, QUIET, home=tmp_path, referrers=True, access=access(tmp_path))
            with open_repository(
                target, QUIET, home=tmp_path, what="x", access=access(tmp_path)
            ) as repository:
                assert repository.referrers(image.digest) == (sbom[0],)
                assert repository.referrers(sbom[0].digest) == (signature[0],)
                assert repository.get_manifest(str(signature[0].digest)).raw == signature[1]
                assert repository.get_manifest(cosign).raw == image.raw


def _referring(image: Image, subject: Descriptor, kind: str) -> tuple[Descriptor, bytes]:
    """An artifact with the image's own content that refers to *subject*: what lists show of it, and its manifest."""
    document = {
        **json.loads(image.raw),
        "artifactType": kind,
        "subject": {
            "mediaType": subject.media_type,
            "digest": str(subject.digest),
            "size": subject.size,
        },
    }
    raw = json.dumps(document).encode()
    entry = Descriptor(
        media_type=media.MANIFEST, digest=Digest.of(raw), size=len(raw), artifact_type=kind
    )
    return entry, raw


def test_what_is_known_by_sha512_goes_to_a_registry_and_back(
    store: Store, other: Store, tmp_path: Path
) -> None:
    """To ours: distribution has sha256 only."""
    with hako_registry() as own:
        digest = an_index_by_sha512(store, "web")
        entry = access(tmp_path, user="oauth2accesstoken", password=own.owner_token, host=own.host)
        name = Reference.parse(f"{own.host}/p/r/web:1")

        push(store, digest, name, QUIET, access=entry)
        image = pull(other, name, AMD64, QUIET, all_platforms=True, access=entry)

    assert other.find_digest(name) == digest
    assert image == store.find_image(Reference.parse("web"))
    assert other.verify() == ()


# Other tools


@pytest.mark.parametrize("form", ["oci", "v2s2"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_what_skopeo_pushes_is_pulled_in_every_form_and_compression(
    host: str, store: Store, other: Store, tmp_path: Path, form: str, compression: str
) -> None:
    if form == "v2s2" and compression == "zstd":
        pytest.skip("docker's media types have no zstd")
    image = some_layers(store)
    name = Reference.parse(f"{host}/skopeo/{form}-{compression}:1")
    options = ["--dest-decompress"] if compression == "none" else ["--dest-compress-format", compression]  # fmt: skip
    run(
        "skopeo", "copy", "--format", form, *(options if compression != "none" else []),
        *(["--dest-compress"] if compression != "none" else []),
        "--dest-tls-verify=false", *_source(store, tmp_path, compression), f"docker://{name}",
    )  # fmt: skip

    pulled = pull(other, name, AMD64, QUIET, access=access(tmp_path))

    assert trees(other, pulled) == trees(store, image)
    assert pulled.diff_ids == image.diff_ids
    kinds = {layer.media_type for layer in pulled.manifest.layers}
    assert len(kinds) == 1, kinds
    if compression == "zstd":
        assert kinds == {media.LAYER_ZSTD}


def _source(store: Store, tmp_path: Path, compression: str) -> list[str]:
    """Where skopeo takes the image from: our own layout, or one with plain layers."""
    own = f"oci:{store.layout}:docker.io/library/web:1"
    if compression == "gzip":
        return [own]
    plain = tmp_path / "plain"
    run("skopeo", "copy", "--dest-decompress", own, f"dir:{plain}")
    return [f"dir:{plain}"]


def test_skopeo_reads_what_we_push(host: str, store: Store, tmp_path: Path) -> None:
    image = some_layers(store)
    name = f"{host}/read/web:1"
    push(store, image, Reference.parse(name), QUIET, access=access(tmp_path))

    out = tmp_path / "out"
    run("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"dir:{out}")

    assert (out / "manifest.json").read_bytes() == image.raw
    for layer in image.manifest.layers:
        assert (out / layer.digest.hex).stat().st_size == layer.size


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_podman_and_buildah_pull_what_we_push_and_we_pull_what_they_push(
    tool: str, host: str, folder: Path, store: Store, other: Store, tmp_path: Path
) -> None:
    image = some_layers(store)
    name = f"{host}/{tool}/web:1"
    push(store, image, Reference.parse(name), QUIET, access=access(tmp_path))
    places = ["--root", f"{folder}/{tool}-root", "--runroot", f"{folder}/{tool}-run"]
    command = [tool, *places, "--storage-driver", "vfs"]

    run(*command, "pull", "--tls-verify=false", name)
    run(*command, "push", "--tls-verify=false", name, f"{host}/{tool}/back:1")

    pulled = pull(
        other, Reference.parse(f"{host}/{tool}/back:1"), AMD64, QUIET, access=access(tmp_path)
    )
    assert trees(other, pulled) == trees(store, image)


def test_zstd_chunked_is_pulled_from_podman_and_pushed_on_as_it_is(
    host: str, folder: Path, store: Store, other: Store, tmp_path: Path
) -> None:
    image = some_layers(store)
    places = ["--root", f"{folder}/chunked-root", "--runroot", f"{folder}/chunked-run"]
    command = ["podman", *places, "--storage-driver", "vfs"]
    here = run(*command, "pull", f"oci:{store.layout}:docker.io/library/web:1")
    run(*command, "push", "--tls-verify=false", "--compression-format=zstd:chunked", "--format=oci", here, f"{host}/chunked/back:1")  # fmt: skip

    back = Reference.parse(f"{host}/chunked/back:1")
    pulled = pull(other, back, AMD64, QUIET, access=access(tmp_path))
    push(other, pulled, Reference.parse(f"{host}/chunked/on:1"), QUIET, access=access(tmp_path))

    assert trees(other, pulled) == trees(store, image)
    layers = pulled.manifest.layers
    assert {layer.media_type for layer in layers} == {media.LAYER_ZSTD}
    assert all("zstd-chunked" in key for layer in layers for key in layer.annotations)
    run("skopeo", "inspect", "--tls-verify=false", f"docker://{host}/chunked/on:1")


@pytest.mark.slow
def test_docker_pulls_what_we_push_and_we_pull_what_it_pushes(
    host: str, folder: Path, store: Store, other: Store, tmp_path: Path
) -> None:
    if not shutil.which("dockerd"):
        pytest.skip("dockerd is not installed")
    image = some_layers(store)
    name, back = f"{host}/docker/web:1", f"{host}/docker/back:1"
    push(store, image, Reference.parse(name), QUIET, access=access(tmp_path))

    with docker_daemon(folder / f"docker-{host.partition(':')[2]}") as env:
        run("docker", "pull", name, env=env)
        shown = run("docker", "inspect", "--format", "{{json .RootFS.Layers}}", name, env=env)
        run("docker", "tag", name, back, env=env)
        run("docker", "push", back, env=env)

    assert json.loads(shown) == [str(diff_id) for diff_id in image.diff_ids]
    pulled = pull(other, Reference.parse(back), AMD64, QUIET, access=access(tmp_path))
    assert pulled.diff_ids == image.diff_ids
    assert trees(other, pulled) == trees(store, image)


@pytest.mark.slow
def test_crane_reads_and_writes_the_same(
    host: str, store: Store, other: Store, tmp_path: Path
) -> None:
    crane = go_tool("crane")
    image = some_layers(store)
    name = f"{host}/crane/web:1"
    push(store, image, Reference.parse(name), QUIET, access=access(tmp_path))

    assert run(crane, "digest", "--insecure", name) == str(image.digest)
    run(crane, "validate", "--insecure", "--remote", name)
    run(crane, "copy", "--insecure", name, f"{host}/crane/back:1")

    back = Reference.parse(f"{host}/crane/back:1")
    assert pull(other, back, AMD64, QUIET, access=access(tmp_path)).raw == image.raw


def test_a_layer_of_another_place_is_fetched_there_and_never_pushed(
    host: str, store: Store, other: Store, tmp_path: Path
) -> None:
    """Windows' base layers and their like: the manifest says where they are."""
    from tests.hostile_registry import hostile_registry

    image = an_image(store, content=b"foreign")
    (layer,) = image.manifest.layers
    with hostile_registry() as elsewhere:
        elsewhere.blobs[str(layer.digest)] = store.read_blob(layer.digest)
        foreign = {
            "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "digest": str(layer.digest),
            "size": layer.size,
            "urls": [f"http://{elsewhere.host}/files/blobs/{layer.digest}"],
        }
        manifest = json.loads(image.raw) | {"layers": [foreign]}
        raw = json.dumps(manifest).encode()
        made = store.put_image(raw, image.raw_config)
        name = Reference.parse(f"{host}/foreign/web:1")

        push(store, made, name, QUIET, access=access(tmp_path))
        with open_repository(
            name, QUIET, home=tmp_path, what="x", access=access(tmp_path)
        ) as repository:
            assert not repository.has_blob(layer.digest)
        pulled = pull(other, name, AMD64, QUIET, access=access(tmp_path))

    assert trees(other, pulled) == trees(store, image)


# Who is let in


def test_a_password_lets_us_in_and_none_or_a_wrong_one_does_not(
    folder: Path, store: Store, other: Store, tmp_path: Path
) -> None:
    image = an_image(store)
    with registry(folder / "htpasswd", users=True) as host:
        name = Reference.parse(f"{host}/private/web:1")
        push(store, image, name, QUIET, access=access(tmp_path, user=USER, host=host))
        assert pull(
            other, name, AMD64, QUIET, access=access(tmp_path, user=USER, host=host)
        ).digest == image.digest  # fmt: skip

        with pytest.raises(RegistryError) as nobody:
            pull(other, name, AMD64, QUIET, access=access(tmp_path))
        where = access(tmp_path, user=USER, host=host, password="wrong-Passw0rd")
        with pytest.raises(RegistryError) as wrong:
            push(store, image, name, QUIET, access=where)

    assert "no credentials were found" in nobody.value.why
    assert f"`hako auth login {host}`" in nobody.value.fix
    assert f"user {USER!r}" in wrong.value.why
    assert "wrong-Passw0rd" not in f"{wrong.value}"


def test_our_own_authority_is_trusted_by_its_file_in_certs_d_and_a_foreign_one_is_not(
    folder: Path, store: Store, other: Store, tmp_path: Path
) -> None:
    image = an_image(store)
    tls, foreign = make_tls(folder / "tls"), make_tls(folder / "foreign")
    with registry(folder / "with-tls", tls=tls, users=True) as host:
        where = access(tmp_path, user=USER, host=host)
        name = Reference.parse(f"{host}/tls/web:1")
        authority = tmp_path / "certs.d" / host / "ca.crt"
        authority.parent.mkdir(parents=True)
        authority.write_bytes(tls.authority.read_bytes())

        push(store, image, name, QUIET, access=where)
        assert pull(other, name, AMD64, QUIET, access=where).raw == image.raw
        authority.write_bytes(foreign.authority.read_bytes())
        with pytest.raises(RegistryError) as unknown:
            pull(other, name, AMD64, QUIET, access=where)

    assert "signed by an authority that this machine does not know" in unknown.value.why
    assert f"/etc/docker/certs.d/{host}/ca.crt" in unknown.value.fix


def test_tokens_are_got_for_what_is_done(
    folder: Path, store: Store, other: Store, tmp_path: Path
) -> None:
    image = some_layers(store)
    rights = {USER: frozenset({"pull", "push", "delete"}), "": frozenset({"pull"})}
    with (
        token_server(folder / "tokens", rights) as (realm, certificate),
        registry(folder / "tokened", token_realm=realm, token_certificate=certificate) as host,
    ):
        name = Reference.parse(f"{host}/token/web:1")
        push(store, image, name, QUIET, access=access(tmp_path, user=USER, host=host))
        assert pull(other, name, AMD64, QUIET, access=access(tmp_path)).raw == image.raw

        with pytest.raises(RegistryError) as denied:
            push(store, an_image(store, content=b"y"), name, QUIET, access=access(tmp_path))
        where = access(tmp_path, user=USER, host=host, password="wrong")
        with pytest.raises(RegistryError) as wrong:
            pull(other, name, AMD64, QUIET, access=where)

        neighbour = Reference.parse(f"{host}/token/other:1")
        store.tag(image.digest, name)
        push(store, image, neighbour, QUIET, access=access(tmp_path, user=USER, host=host))

    assert denied.value.status == 401
    assert wrong.value.status == 401
