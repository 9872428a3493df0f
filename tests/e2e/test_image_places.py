"""Images to and from the docker daemon, archives and layouts, with the tools that read and write them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hakobune.oci.descriptor import MANIFEST, Descriptor, encode_document
from hakobune.oci.layer import Directory, File, Owner, Symlink, write_layer
from hakobune.oci.manifest import Image, make_index
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.e2e.docker_daemon import DockerDaemon, docker_daemon
from tests.e2e.installation import Installation
from tests.image_maker import a_layer, an_image

pytestmark = pytest.mark.needs_root

needs_skopeo = pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed")
needs_podman = pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")


@pytest.fixture(scope="module")
def docker() -> Iterator[DockerDaemon]:
    if shutil.which("dockerd") is None:
        pytest.skip("docker.io is not installed")
    with docker_daemon() as daemon:
        yield daemon


@pytest.fixture
def other(tmp_path: Path) -> Installation:
    return Installation(home=tmp_path / "other", port=1)


@pytest.fixture
def image(here: Installation) -> Iterator[Image]:
    with Store(here.home) as store:
        layers = [
            a_layer(store, b"first"),
            write_layer(store, [File(name="/second", content=b"2")], owner=Owner(0, 0)),
        ]
        yield an_image(store, "shop/web:v2", layers=layers, labels={"who": "test"})


def _daemon(here: Installation, docker: DockerDaemon) -> Installation:
    host = {"DOCKER_HOST": docker.env["DOCKER_HOST"]}
    return Installation(home=here.home, port=1, extra_env=host)


def _image(installation: Installation, name: str, platform: Platform | None = None) -> Image:
    with Store(installation.home) as store:
        image = store.find_image(Reference.parse(name), platform)
        assert image is not None
        return image


def _skopeo(*arguments: str) -> str:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# docker's daemon


def test_the_daemon_gets_an_image_and_gives_it_back(
    here: Installation, other: Installation, image: Image, docker: DockerDaemon
) -> None:
    pushed = _daemon(here, docker).hako("image", "push", "shop/web:v2", "docker-daemon:peer/web:1")

    (details,) = json.loads(docker.docker("image", "inspect", "peer/web:1"))
    assert details["Config"]["Labels"] == {"who": "test"}
    assert details["RootFS"]["Layers"] == [str(diff_id) for diff_id in image.diff_ids]
    assert pushed.stdout == f"docker-daemon:peer/web:1@{image.digest}\n"

    pulled = _daemon(other, docker).hako("image", "pull", "docker-daemon:peer/web:1")

    back = _image(other, "peer/web:1")
    assert pulled.stdout == f"peer/web:1@{back.digest}\n"
    assert back.diff_ids == image.diff_ids
    assert back.config.labels == {"who": "test"}


def test_only_the_layers_that_the_daemon_lacks_are_sent(
    here: Installation, image: Image, docker: DockerDaemon
) -> None:
    big = os.urandom(4 << 20)
    with Store(here.home) as store:
        base = write_layer(store, [File(name="/big", content=big)], owner=Owner(0, 0))
        for number in (1, 2):
            layers = [base, a_layer(store, f"app {number}".encode())]
            an_image(store, f"app:{number}", layers=layers)
    installation = _daemon(here, docker)

    first = installation.hako("image", "push", "app:1", "docker-daemon:app:1")
    second = installation.hako("image", "push", "app:2", "docker-daemon:app:2")

    assert "the daemon had" not in first.stderr
    assert "the daemon had 1 of 2 layers" in second.stderr
    created = docker.docker("create", "app:2", "/none").strip()
    with tarfile.open(fileobj=io.BytesIO(_bytes(docker, "export", created))) as tar:
        assert tar.extractfile("big").read() == big  # type: ignore[union-attr] # it is a file
        assert tar.extractfile("app/file").read() == b"app 2"  # type: ignore[union-attr] # it is a file


def _bytes(docker: DockerDaemon, *arguments: str) -> bytes:
    return subprocess.run(
        ["docker", *arguments], env=docker.env, capture_output=True, check=True, timeout=120
    ).stdout


def test_what_the_daemon_lacks_and_a_daemon_that_is_not_there_are_said(
    here: Installation, image: Image, docker: DockerDaemon, tmp_path: Path
) -> None:
    unknown = _daemon(here, docker).hako("image", "pull", "docker-daemon:nope:1", check=False)
    nowhere = Installation(
        home=here.home, port=1, extra_env={"DOCKER_HOST": f"unix://{tmp_path}/none"}
    )
    absent = nowhere.hako("image", "push", "shop/web:v2", "docker-daemon:x", check=False)

    assert unknown.returncode == 1
    assert "the docker daemon refused nope:1" in unknown.stderr
    assert absent.returncode == 1
    assert f"unix://{tmp_path}/none: No such file or directory" in absent.stderr


def test_zstd_layers_are_sent_as_old_daemons_read_them(
    here: Installation, docker: DockerDaemon
) -> None:
    import zstandard

    from hakobune.oci.config import ImageConfig, RootFs
    from hakobune.oci.descriptor import CONFIG, LAYER_ZSTD
    from hakobune.oci.digest import Digest
    from hakobune.oci.manifest import make_manifest

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"hi"))
    plain = out.getvalue()
    with Store(here.home) as store:
        layer = store.put_blob(zstandard.compress(plain), LAYER_ZSTD)
        config = ImageConfig(
            architecture="amd64", os="linux", rootfs=RootFs(diff_ids=(Digest.of(plain),))
        )
        raw_config = encode_document(config)
        blob = Descriptor(media_type=CONFIG, digest=Digest.of(raw_config), size=len(raw_config))
        raw = encode_document(make_manifest(blob, [layer], {}))
        store.put_image(raw, raw_config, names=[Reference.parse("zstd")])

    _daemon(here, docker).hako("image", "push", "zstd", "docker-daemon:zstd:1")

    assert "zstd" in docker.docker("image", "ls")


# Files


@needs_skopeo
@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive", "oci"])
def test_skopeo_reads_what_is_pushed_into_a_file_and_we_what_it_writes(
    here: Installation, other: Installation, image: Image, tmp_path: Path, transport: str
) -> None:
    ours, theirs = f"{transport}:{tmp_path}/ours", f"{transport}:{tmp_path}/theirs"
    here.hako("image", "push", "shop/web:v2", f"{ours}:shop/web:v2")

    details = json.loads(_skopeo("inspect", f"{ours}:shop/web:v2"))
    _skopeo("copy", f"{ours}:shop/web:v2", f"{theirs}:shop/web:v2")
    pulled = other.hako("image", "pull", f"{theirs}:shop/web:v2")

    assert details["Labels"] == {"who": "test"}
    back = _image(other, "shop/web:v2")
    assert back.diff_ids == image.diff_ids
    assert pulled.stdout == f"shop/web:v2@{back.digest}\n"
    if transport != "docker-archive":
        assert back.digest == image.digest


@needs_podman
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_podman_loads_what_is_saved_and_we_what_it_saves(
    here: Installation, other: Installation, image: Image, tmp_path: Path, form: str
) -> None:
    with Store(here.home) as store:
        an_image(store, "second:v1", content=b"second")
    here.hako(
        "image", "save", "shop/web:v2", "second:v1", "--format", form, "-o", f"{tmp_path}/a.tar"
    )
    with _podman(tmp_path) as podman:
        podman("load", "-i", f"{tmp_path}/a.tar")
        podman("save", "--format", "oci-archive", "-o", f"{tmp_path}/b.tar", "shop/web:v2")

    other.hako("image", "load", "-i", f"{tmp_path}/b.tar")

    assert _image(other, "shop/web:v2").diff_ids == image.diff_ids


@contextlib.contextmanager
def _podman(tmp_path: Path) -> Iterator[object]:
    with tempfile.TemporaryDirectory(
        prefix="hk-", dir="/var/tmp", ignore_cleanup_errors=True
    ) as folder:

        def podman(*arguments: str) -> str:
            done = subprocess.run(
                [
                    "podman",
                    f"--root={folder}/root",
                    f"--runroot={folder}/run",
                    f"--tmpdir={folder}/tmp",
                    "--storage-driver=vfs",
                    *arguments,
                ],
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        yield podman


@needs_skopeo
def test_copy_goes_from_any_place_to_any_other(
    here: Installation, image: Image, tmp_path: Path, docker: DockerDaemon
) -> None:
    installation = _daemon(here, docker)
    archive, layout = f"oci-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/layout"
    docker_tar = f"docker-archive:{tmp_path}/d.tar"
    installation.hako("image", "push", "shop/web:v2", archive)

    installation.hako("image", "copy", f"{archive}:shop/web:v2", f"{layout}:v1")
    installation.hako("image", "copy", f"{layout}:v1", "docker-daemon:copied:1")
    installation.hako("image", "copy", "docker-daemon:copied:1", f"{docker_tar}:copied:2")

    details = json.loads(_skopeo("inspect", "--config", f"{docker_tar}:copied:2"))
    assert details["rootfs"]["diff_ids"] == [str(diff_id) for diff_id in image.diff_ids]
    names = [line.split()[0] for line in installation.hako("image", "ls").stdout.splitlines()[1:]]
    assert names == ["shop/web:v2"]  # what is passed on gets no name here


@pytest.mark.parametrize(
    "place",
    ["containers-storage:x", "dir:/tmp/x", "docker-daemon:", "oci-archive:", "oci::name"],
)
def test_places_that_are_none_are_usage_errors(here: Installation, place: str) -> None:
    done = here.hako("image", "pull", place, check=False)

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


# Platforms


@pytest.fixture
def index(here: Installation) -> Iterator[str]:
    with Store(here.home) as store:
        images = [
            an_image(store, content=arch.encode(), architecture=arch) for arch in ("amd64", "arm64")
        ]
        entries = [
            Descriptor(media_type=MANIFEST, digest=i.digest, size=len(i.raw), platform=i.platform)
            for i in images
        ]
        raw = encode_document(make_index(entries, {}))
        yield str(store.put_index(raw, names=(Reference.parse("both:v1"),)))


@needs_skopeo
@pytest.mark.parametrize("form", ["oci-archive", "oci-dir"])
def test_an_index_is_saved_whole_and_loaded_whole_or_in_part(
    here: Installation, other: Installation, index: str, tmp_path: Path, form: str
) -> None:
    path = tmp_path / "saved"
    here.hako("image", "save", "both:v1", "--format", form, "-o", str(path))
    transport = "oci" if form == "oci-dir" else form

    raw = _skopeo("inspect", "--raw", f"{transport}:{path}:docker.io/library/both:v1")
    whole = other.hako("image", "load", "-i", str(path), "--all-platforms")
    assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == index
    assert whole.stdout == f"both:v1@{index}\n"
    assert _image(other, "both:v1", Platform("linux", "arm64")).config.architecture == "arm64"

    part = other.hako("image", "load", "-i", str(path), "--platform", "linux/arm64")
    assert part.stdout == f"both:v1@{_image(other, 'both:v1', Platform('linux', 'arm64')).digest}\n"


def test_docker_gets_one_platform_of_an_index(
    here: Installation, index: str, docker: DockerDaemon
) -> None:
    installation = _daemon(here, docker)
    installation.hako("image", "push", "both:v1", "docker-daemon:both:host")
    installation.hako(
        "image", "push", "both:v1", "docker-daemon:both:arm", "--platform", "linux/arm64"
    )

    architectures = [
        json.loads(docker.docker("image", "inspect", f"both:{tag}"))[0]["Architecture"]
        for tag in ("host", "arm")
    ]
    assert architectures == ["amd64", "arm64"]


# Content


def test_an_image_is_exported_as_a_container_would_see_it(
    here: Installation, tmp_path: Path, docker: DockerDaemon
) -> None:
    with Store(here.home) as store:
        base = write_layer(
            store,
            [
                Directory(name="/etc"),
                File(name="/etc/kept", content=b"kept"),
                File(name="/etc/gone", content=b"gone"),
                Directory(name="/tmp", mode=0o1777),
                Symlink(name="/link", target="etc/kept"),
            ],
            owner=Owner(0, 0),
        )
        top = write_layer(
            store,
            [
                Directory(name="/etc"),
                File(name="/etc/.wh.gone", content=b""),
                File(name="/app", content=b"app", mode=0o4755, owner=Owner(7, 8)),
            ],
            owner=Owner(0, 0),
        )
        an_image(store, "tree", layers=[base, top])
    installation = _daemon(here, docker)

    installation.hako("image", "export", "tree", "-o", str(tmp_path / "tree.tar"))
    installation.hako("image", "push", "tree", "docker-daemon:tree:1")

    created = docker.docker("create", "tree:1", "/none").strip()
    theirs = _listing(_bytes(docker, "export", created))
    ours = _listing((tmp_path / "tree.tar").read_bytes())
    made_by_docker = {
        ".dockerenv",
        "dev",
        "proc",
        "sys",
        "etc/hostname",
        "etc/hosts",
        "etc/mtab",
        "etc/resolv.conf",
    }
    assert ours == {
        name: item
        for name, item in theirs.items()
        if name not in made_by_docker and not name.startswith("dev/")
    }
    assert ours["app"] == (0o4755, 7, 8, b"app", "")


def _listing(archive: bytes) -> dict[str, tuple[int, int, int, bytes, str]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            member.name.rstrip("/"): (
                member.mode & 0o7777,  # docker writes the kind of file, too
                member.uid,
                member.gid,
                tar.extractfile(member).read() if member.isfile() else b"",  # type: ignore[union-attr] # it is a file
                member.linkname,
            )
            for member in tar
        }


def test_the_history_shows_steps_with_their_layers(here: Installation, image: Image) -> None:
    table = here.hako("image", "history", "shop/web:v2").stdout.splitlines()
    documents = json.loads(here.hako("image", "history", "shop/web:v2", "--format", "json").stdout)

    assert table[0].split() == ["CREATED", "CREATED", "BY", "SIZE", "COMMENT"]
    assert [d["diffId"] for d in documents] == [str(d) for d in reversed(image.diff_ids)]
    assert [d["size"] for d in documents] == [b.size for b in reversed(image.manifest.layers)]
