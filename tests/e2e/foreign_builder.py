"""A builder and a run image for the other CPU, small and real: busybox, one buildpack of two shell scripts, our launcher."""

from __future__ import annotations

from hakobune.buildpack.builder_labels import builder_labels
from hakobune.buildpack.descriptor import Buildpack, BuildpackTable, GroupElement, OrderGroup
from hakobune.buildpack.run_image import RunImage
from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.layer import Directory, File, Layer, Owner, write_layer
from hakobune.oci.manifest import Image
from hakobune.oci.platform import Platform
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.e2e.installation import ROOT

UID, GID = 1001, 1000
_ID, _VERSION = "test/machine", "1.0"
_BUILDPACK = Buildpack(
    api="0.10", buildpack=BuildpackTable(id=_ID, version=_VERSION, name="Machine")
)
_TOML = f'api = "0.10"\n[buildpack]\nid = "{_ID}"\nversion = "{_VERSION}"\nname = "Machine"\n'
_BUILD = """#!/bin/sh
set -e
mkdir -p "$1/it"
uname -m >"$1/it/machine"
printf '[types]\\nlaunch = true\\n' >"$1/it.toml"
cat >"$1/launch.toml" <<END
[[processes]]
type = "web"
command = ["/bin/sh", "-c", "cat $1/it/machine; uname -m"]
default = true
END
echo "built on $(uname -m)"
"""


def publish_foreign_builder(store: Store, base: Image, platform: Platform) -> tuple[Image, Image]:
    """`test/builder` and `test/run` for *platform*, over the layers of *base* (a shell and a few programs)."""
    below = [
        Layer(blob, diff_id)
        for blob, diff_id in zip(base.manifest.layers, base.diff_ids, strict=True)
    ]
    env = (f"CNB_USER_ID={UID}", f"CNB_GROUP_ID={GID}", "PATH=/bin")
    labels = builder_labels(
        description="",
        order=(OrderGroup(group=(GroupElement(id=_ID),)),),
        buildpacks=((_BUILDPACK, "sha256:" + "0" * 64),),
        run_images=(RunImage(image="test/run"),),
        lifecycle_version="1.0",
    )
    run = _publish(store, platform, [*below, _users(store)], "test/run", {}, env=("PATH=/bin",))
    layers = [*below, _users(store), _lifecycle(store, platform)]
    return _publish(store, platform, layers, "test/builder", labels, env=env), run


def _publish(
    store: Store,
    platform: Platform,
    layers: list[Layer],
    name: str,
    labels: dict[str, str],
    *,
    env: tuple[str, ...],
) -> Image:
    config = ContainerConfig(env=env, labels=labels, user=f"{UID}:{GID}")
    return store.publish_image(
        config=ImageConfig(
            os=platform.os, architecture=platform.architecture, config=config, rootfs=RootFs()
        ),
        layers=layers,
        names=[Reference.parse(name)],
    )


def _users(store: Store) -> Layer:
    passwd = f"root:x:0:0::/root:/bin/sh\ncnb:x:{UID}:{GID}::/home/cnb:/bin/sh\n".encode()
    return write_layer(
        store,
        [
            Directory(name="/etc"),
            File(name="/etc/passwd", content=passwd),
            File(name="/etc/group", content=f"root:x:0:\ncnb:x:{GID}:\n".encode()),
            Directory(name="/home"),
            Directory(name="/home/cnb", owner=Owner(UID, GID)),
            Directory(name="/tmp", mode=0o1777),
            *(Directory(name=name) for name in ("/dev", "/proc", "/sys")),
        ],
        owner=Owner(0, 0),
    )


def _lifecycle(store: Store, platform: Platform) -> Layer:
    folder = f"/cnb/buildpacks/test_machine/{_VERSION}"
    launcher = ROOT / f"launcher/bin/launcher-{platform.architecture}"
    return write_layer(
        store,
        [
            *(
                Directory(name=name)
                for name in (
                    "/cnb",
                    "/cnb/buildpacks",
                    "/cnb/buildpacks/test_machine",
                    folder,
                    f"{folder}/bin",
                    "/cnb/lifecycle",
                    "/platform",
                    "/platform/env",
                )
            ),
            File(name=f"{folder}/buildpack.toml", content=_TOML.encode()),
            File(name=f"{folder}/bin/detect", content=b"#!/bin/sh\nexit 0\n", mode=0o755),
            File(name=f"{folder}/bin/build", content=_BUILD.encode(), mode=0o755),
            File(name="/cnb/lifecycle/launcher", content=launcher, mode=0o755),
            Directory(name="/layers", owner=Owner(UID, GID)),
            Directory(name="/workspace", owner=Owner(UID, GID)),
        ],
        owner=Owner(0, 0),
    )
