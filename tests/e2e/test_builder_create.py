"""A builder from a builder.toml: base images from Dockerfiles, buildpacks from folders, archives and packages, used and inspected."""

from __future__ import annotations

import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import Directory, File, Owner, write_layer
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.snapshot import stacked_dirs
from hakobune.oci.store import Store
from tests.e2e.installation import Installation

pytestmark = pytest.mark.needs_root

DOCKERFILE = """\
FROM hako/base-run:13 AS base
USER root
ARG MARK=unmarked
RUN echo $MARK >/etc/made
FROM base AS run
USER 1002:1000
FROM base AS build
RUN echo builder:x:1001:1000::/home/builder:/bin/sh >>/etc/passwd && mkdir -m 777 /home/builder
ENV CNB_USER_ID=1001 CNB_GROUP_ID=1000
ENTRYPOINT ["/bin/false"]
USER ${CNB_USER_ID}:${CNB_GROUP_ID}
"""
BASES = """
[build]
image = "mine/build"
[[build.env]]
name = "COLOUR"
value = "green"
[[run.images]]
image = "mine/run"
mirrors = ["mirror.test/run"]
"""
MADE = BASES.replace('"mine/build"', '"mine/build"\ndockerfile = "Dockerfile"\ntarget = "build"').replace(
    '"mine/run"', '"mine/run"\ndockerfile = "Dockerfile"\ntarget = "run"'
)  # fmt: skip
BUILD = """\
#!/bin/sh
set -e
mkdir -p "$1/it"
echo "$(id -un) ${COLOUR:-no colour} $(cat /etc/made)" >"$1/it/said"
printf '[types]\\nlaunch = true\\n' >"$1/it.toml"
cat >"$1/launch.toml" <<END
[[processes]]
type = "web"
command = ["/bin/sh", "-c", "cat $1/it/said /etc/made; id -u"]
default = true
END
"""


@pytest.fixture
def here(shared_installation: Installation, seed_home: Path) -> Iterator[Installation]:
    """The shared installation, with base images; what the tests named is gone afterwards."""
    yield shared_installation
    for name in ("mine/builder", "mine/build", "mine/run", "mine/app", "mine/package"):
        shared_installation.hako("image", "rm", name, check=False)


def descriptor(name: str) -> bytes:
    return f'api = "0.10"\n[buildpack]\nid = "mine/{name}"\nversion = "1.0"\nhomepage = "https://{name}.test"\n[[targets]]\nos = "linux"\n'.encode()


def a_buildpack(parent: Path, name: str = "hello") -> Path:
    folder = parent / name
    (folder / "bin").mkdir(parents=True)
    (folder / "buildpack.toml").write_bytes(descriptor(name))
    for script, text in (("detect", "#!/bin/sh\nexit 0\n"), ("build", BUILD)):
        (folder / "bin" / script).write_text(text)
        (folder / "bin" / script).chmod(0o700)
    (folder / "bin/again").symlink_to("build")
    return folder


def a_builder(folder: Path, *uris: str, bases: str = MADE, name: str = "hello") -> Path:
    listed = "".join(f'[[buildpacks]]\nuri = "{uri}"\n' for uri in uris)
    (folder / "builder.toml").write_text(
        f'description = "mine"\n{listed}[[order]]\n[[order.group]]\nid = "mine/{name}"\n{bases}'
    )
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "app").mkdir()
    (folder / "app/file").write_text("x")
    return folder / "builder.toml"


def test_a_builder_whose_base_images_are_dockerfiles_builds_apps_that_run(
    here: Installation, tmp_path: Path
) -> None:
    a_buildpack(tmp_path)
    config = str(a_builder(tmp_path, "hello"))

    made = here.hako("builder", "create", "mine/builder", "-c", config, "--build-arg", "MARK=red")
    again = here.hako("builder", "create", "mine/builder", "-c", config, "--build-arg", "MARK=red")
    here.hako("build", "mine/app", "--builder", "mine/builder", "--path", str(tmp_path / "app"))
    said = here.hako("container", "run", "--rm", "mine/app").stdout

    assert made.stdout == again.stdout
    assert "mine/build from Dockerfile (build)" in made.stderr
    assert "DONE" not in again.stderr
    assert said.splitlines() == ["builder green red", "red", "1002"]


def test_the_builder_has_the_labels_and_the_layout_that_pack_reads(
    here: Installation, tmp_path: Path
) -> None:
    a_buildpack(tmp_path)
    config = a_builder(tmp_path, "hello", bases=BASES)
    file = str(tmp_path / "Dockerfile")

    here.hako(
        *("builder", "create", "mine/builder", "-c", str(config), "--label", "team=shop"),
        *("--build-dockerfile", file, "--build-target", "build"),
        *("--run-dockerfile", file, "--run-target", "run"),
    )

    with Store(here.home) as store:
        image = store.find_image(Reference.parse("mine/builder"))
        assert image is not None
        labels = image.config.labels
        trees = stacked_dirs(store.snapshots(image))
    config_of = image.config.config
    metadata = json.loads(labels["io.buildpacks.builder.metadata"])
    layers = json.loads(labels["io.buildpacks.buildpack.layers"])
    assert (config_of.working_dir, config_of.entrypoint, config_of.user) == (
        "/layers",
        (),
        "1001:1000",
    )
    assert labels["team"] == "shop"
    assert metadata["stack"] == {"runImage": {"image": "mine/run", "mirrors": ["mirror.test/run"]}}
    assert metadata["images"] == [metadata["stack"]["runImage"]]
    assert metadata["buildpacks"] == [
        {"id": "mine/hello", "version": "1.0", "homepage": "https://hello.test"}
    ]
    assert json.loads(labels["io.buildpacks.buildpack.order"]) == [
        {"group": [{"id": "mine/hello", "version": "1.0"}]}
    ]
    assert layers["mine/hello"]["1.0"]["layerDiffID"] in map(str, image.diff_ids)
    found = {
        str(path.relative_to(tree)): (path.lstat().st_mode & 0o777, path.lstat().st_uid)
        for tree in trees
        for path in (*tree.glob("cnb/**/*"), tree / "layers", tree / "workspace", tree / "platform/env")
        if path.exists()
    }  # fmt: skip
    buildpack = "cnb/buildpacks/mine_hello/1.0"
    assert found["layers"] == found["workspace"] == (0o755, 1001)
    assert found["platform/env"] == (0o755, 0)
    assert found[f"{buildpack}/bin/build"] == (0o755, 0)
    assert found[f"{buildpack}/buildpack.toml"] == (0o644, 0)
    for name in ("order.toml", "run.toml", "build-config/env/COLOUR", "lifecycle/launcher"):
        assert f"cnb/{name}" in found
    again = next(tree / buildpack / "bin/again" for tree in trees if (tree / buildpack).exists())
    assert str(again.readlink()) == "build"


def a_package(here: Installation) -> None:
    """`mine/package`: what `pack buildpack package` makes of a buildpack."""
    folder = "/cnb/buildpacks/mine_packed/1.0"
    with Store(here.home) as store:
        parents = (
            "/cnb",
            "/cnb/buildpacks",
            "/cnb/buildpacks/mine_packed",
            folder,
            f"{folder}/bin",
        )
        layer = write_layer(
            store,
            [
                *(Directory(name=name) for name in parents),
                File(name=f"{folder}/buildpack.toml", content=descriptor("packed")),
                File(name=f"{folder}/bin/detect", content=b"#!/bin/sh\nexit 0\n", mode=0o755),
                File(name=f"{folder}/bin/build", content=BUILD.encode(), mode=0o755),
            ],
            owner=Owner(0, 0),
        )
        info = {"api": "0.10", "layerDiffID": str(layer.diff_id), "targets": [{"os": "linux"}]}
        labels = {
            "io.buildpacks.buildpackage.metadata": '{"id":"mine/packed","version":"1.0"}',
            "io.buildpacks.buildpack.layers": json.dumps({"mine/packed": {"1.0": info}}),
        }
        host = Platform.host()
        config = ImageConfig(
            os=host.os,
            architecture=host.architecture,
            config=ContainerConfig(labels=labels),
            rootfs=RootFs(),
        )
        store.publish_image(config=config, layers=[layer], names=[Reference.parse("mine/package")])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The test's folder as a web site; its URL."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "place", ["docker://mine/package", "package.cnb", "packed.tgz", "SITE/package.cnb", "SITE/packed.tgz"]
)  # fmt: skip
def test_buildpacks_come_as_packages_and_archives(
    here: Installation, tmp_path: Path, site: str, place: str
) -> None:
    kind = place.removeprefix("SITE/")
    if kind == "packed.tgz":
        with tarfile.open(tmp_path / kind, "w:gz") as archive:
            archive.add(a_buildpack(tmp_path, "packed"), arcname=".")
    else:
        a_package(here)
    if kind == "package.cnb":
        file = str(tmp_path / kind)
        here.hako("image", "save", "mine/package", "--format", "oci-archive", "-o", file)
        here.hako("image", "rm", "mine/package")
    config = str(a_builder(tmp_path, place.replace("SITE", site), name="packed"))

    here.hako("builder", "create", "mine/builder", "-c", config)
    here.hako("build", "mine/app", "--builder", "mine/builder", "--path", str(tmp_path / "app"))

    assert here.hako("container", "run", "--rm", "mine/app").stdout.startswith("builder green unmarked\n")  # fmt: skip


def test_inspect_says_what_a_builder_holds(here: Installation, tmp_path: Path) -> None:
    a_buildpack(tmp_path)
    here.hako("builder", "create", "mine/builder", "-c", str(a_builder(tmp_path, "hello")))

    shown = here.hako("builder", "inspect", "mine/builder").stdout
    document = json.loads(
        here.hako("builder", "inspect", "mine/builder", "--format", "json").stdout
    )
    ours = here.hako("builder", "inspect").stdout
    none = here.hako("builder", "inspect", "mine/run", check=False)

    for line in (
        "Description:    mine",
        "  mine/run",
        "    mirror mirror.test/run",
        "    mine/hello@1.0",
    ):
        assert line in shown.splitlines()
    assert document["runImages"] == [{"image": "mine/run", "mirrors": ["mirror.test/run"]}]
    assert document["order"] == [{"group": [{"id": "mine/hello", "version": "1.0"}]}]
    assert "hako/python" in ours
    assert "mine/run is not a builder" in none.stderr


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (("USER ${CNB_USER_ID}:${CNB_GROUP_ID}\n", ""), ("mine/build is no build image", "it runs as root")),
        (("RUN echo $MARK", "RUNN echo"), ("Dockerfile:4:1: RUNN: unknown instruction",)),
        (('uri = "hello"', 'uri = "helo"'), ("there is no buildpack helo",)),
        (('uri = "hello"', 'uri = "s3://x/a.tgz"'), ("cannot be fetched", "download it")),
        (('uri = "hello"', 'uri = "https://x.test/a.tgz"'), ("cannot download https://x.test/a.tgz", "no host is called x.test")),
        (('uri = "hello"', 'uri = "urn:cnb:registry:a/b"'), ("cannot be looked up", "docker://NAME")),
        (('[[order]]', '[[extensions]]\nuri = "x"\n[[order]]'), ("builders have no image extensions here",)),
        (('uri = "hello"', 'uri = "app"'), ("app is no buildpack", "it has no buildpack.toml")),
        (('id = "mine/hello"', 'id = "mine/other"'), ("the order of buildpacks cannot be used",)),
        (('target = "run"', 'target = "runn"'), ("there is no stage 'runn'", "did you mean")),
        (('dockerfile = "Dockerfile"', 'dockerfle = "x"'), ("there is no such key (did you mean 'dockerfile'?)",)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_no_builder_is_named(
    here: Installation, tmp_path: Path, change: tuple[str, str], lines: tuple[str, ...]
) -> None:
    a_buildpack(tmp_path)
    config = a_builder(tmp_path, "hello")
    for file in (config, tmp_path / "Dockerfile"):
        file.write_text(file.read_text().replace(*change))

    done = here.hako("builder", "create", "mine/builder", "-c", str(config), check=False)

    assert done.returncode == 1
    for line in lines:
        assert line in done.stderr
    assert "mine/builder" not in here.hako("image", "ls").stdout
    assert not list((here.home / "cache").glob(".buildpack.*"))
