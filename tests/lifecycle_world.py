"""A small world for tests of the lifecycle: a store with a run image, a container with buildpacks, an app."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hakobune.buildpack.descriptor import (
    BUILDPACKS_DIRECTORY,
    GroupElement,
    Order,
    OrderGroup,
    parse_buildpack,
)
from hakobune.buildpack.order import Catalog
from hakobune.buildpack.run_image import RunImage
from hakobune.lifecycle.analyze import Analyzed, analyze, write_analyzed
from hakobune.lifecycle.build import Built, build
from hakobune.lifecycle.detect import Detected, detect
from hakobune.lifecycle.documents import KeptLayers
from hakobune.lifecycle.environment import BuildContext, BuildEnvironment
from hakobune.lifecycle.export import Exported, ExportRequest, export
from hakobune.lifecycle.image_config import Launcher
from hakobune.lifecycle.kept import kept_layers
from hakobune.lifecycle.restore import Restored, restore
from hakobune.oci import settle
from hakobune.oci.config import ContainerConfig, History, ImageConfig, RootFs
from hakobune.oci.layer import ROOT, Directory, File, write_layer
from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from hakobune.progress import RecordedProgress
from tests.plain_directories import PlainDirectories

RUN = Reference.parse("hako/base-run:13")
APP = Reference.parse("hako/apps/shop")


class UnknownChanges:
    """A plain container has no top that shows what was written: every kept layer is hashed."""

    def settle(self, path: str, snapshot: str | None, *, launch: bool) -> settle.Settled:
        if snapshot is None:
            return settle.Settled(settle.Outcome.CHANGED, "it is new")
        return settle.Settled(settle.Outcome.UNSURE, "nobody recorded what was written")


@dataclass(slots=True)
class Outcome:
    """What the phases gave."""

    analyzed: Analyzed
    detected: Detected
    restored: Restored
    built: Built
    exported: Exported
    kept: KeptLayers
    environment: PlainDirectories
    progress: RecordedProgress


@dataclass(slots=True)
class World:
    """Buildpacks are bash scripts that really run; each build gets a fresh container."""

    folder: Path
    store: Store
    order: list[GroupElement] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    exec_env: str = "production"
    builds: int = 0

    @classmethod
    def at(cls, folder: Path) -> World:
        store = Store(folder / "home")
        world = cls(folder, store)
        world.publish_run_image()
        (folder / "launcher").write_bytes(b"\x7fELF launcher")
        return world

    def publish_run_image(
        self,
        *,
        labels: Mapping[str, str] | None = None,
        architecture: str = "amd64",
        name: Reference = RUN,
        os_: str = "linux",
    ) -> Image:
        layer = write_layer(
            self.store,
            [Directory(name="/etc"), File(name="/etc/os-release", content=b"ID=debian\n")],
            owner=ROOT,
        )
        all_labels = {
            "io.buildpacks.base.distro.name": "debian",
            "io.buildpacks.base.distro.version": "13",
            "io.buildpacks.rebasable": "true",
        }
        config = ImageConfig(
            architecture=architecture,
            os=os_,
            config=ContainerConfig(
                user="1002:1000",
                env=("PATH=/usr/bin:/bin", "LANG=C.UTF-8"),
                cmd=("/bin/sh",),
                labels=all_labels if labels is None else labels,
            ),
            rootfs=RootFs(),
            history=(History(created_by="base"), History(created_by="ENV", empty_layer=True)),
        )
        return self.store.publish_image(config=config, layers=[layer], names=[name])

    def add_buildpack(
        self,
        id_: str,
        *,
        version: str = "1.0.0",
        api: str = "0.12",
        detect: str = "exit 0",
        build: str = "exit 0",
        toml: str = "",
        optional: bool = False,
        in_order: bool = True,
        **table: str,
    ) -> str:
        """Give the builder a buildpack and (last) its only group; gives its folder."""
        folder = f"/cnb/buildpacks/{id_.replace('/', '_')}/{version}"
        extra = "\n".join(f"{k.replace('_', '-')} = {v}" for k, v in table.items())
        self.files[f"{folder}/buildpack.toml"] = (
            f'api = "{api}"\n[buildpack]\nid = "{id_}"\nversion = "{version}"\n{extra}\n{toml}\n'
        )
        self.scripts[f"{folder}/bin/detect"] = detect
        self.scripts[f"{folder}/bin/build"] = build
        if in_order:
            self.order.append(GroupElement(id=id_, version=version, optional=optional))
        return folder

    def container(self) -> PlainDirectories:
        """A fresh container with the builder's files and the app."""
        self.builds += 1
        environment = PlainDirectories(self.folder / f"root{self.builds}")
        for folder in ("/layers", "/workspace", "/platform/env", "/cnb/build-config/env"):
            environment.make_directory(folder, mode=0o755, uid=0, gid=0)
        for path, text in self.files.items():
            environment.write_text(path, text)
        for path, body in self.scripts.items():
            environment.write_script(path, body)
        return environment

    def context(self, environment: PlainDirectories, analyzed: Analyzed) -> BuildContext:
        return BuildContext(
            environment=environment,
            uid=1001,
            gid=1000,
            variables={"PATH": "/usr/bin:/bin", "HOME": "/home/cnb"},
            target=analyzed.target,
            exec_env=self.exec_env,
        )

    def analyze(self, progress: RecordedProgress | None = None) -> Analyzed:
        return analyze(
            self.store,
            previous=APP,
            run=RunImage(image="hako/base-run:13"),
            run_reference=RUN,
            build_image=None,
            os_release=None,
            exec_env=self.exec_env,
            progress=progress or RecordedProgress(),
        )

    def detect(self, order: Order | None = None) -> Detected:
        """Run detection alone in a fresh container."""
        environment = self.container()
        return detect(
            self.context(environment, self.analyze()),
            order=order or self.groups(),
            catalog=read_catalog(environment),
            progress=RecordedProgress(),
        )

    def groups(self) -> Order:
        return (OrderGroup(group=tuple(self.order)),)

    def build(
        self,
        *,
        last: Outcome | None = None,
        environment: PlainDirectories | None = None,
        **request: Any,
    ) -> Outcome:
        """All five phases; the layers that *last* kept are in the container, as lowers would be."""
        environment = environment or self.container()
        if last is not None:
            for buildpack, name, _ in last.kept.layers():
                path = f"layers/{buildpack.replace('/', '_')}/{name}"
                copy_tree(last.environment.root / path, environment.root / path)
        progress = RecordedProgress()
        analyzed = self.analyze(progress)
        context = self.context(environment, analyzed)
        write_analyzed(environment, analyzed, layers=context.layers)
        catalog = read_catalog(environment)
        detected = detect(context, order=self.groups(), catalog=catalog, progress=progress)
        kept = last.kept if last else None
        restored = restore(
            context,
            self.store,
            group=detected.group,
            previous=analyzed.previous,
            metadata=analyzed.metadata,
            kept=kept,
            progress=progress,
        )
        built = build(context, detected=detected, catalog=catalog, progress=progress)
        request.setdefault("names", [APP])
        exported = export(
            context,
            self.store,
            UnknownChanges(),
            analyzed=analyzed,
            built=built,
            kept=kept,
            restored=restored,
            request=ExportRequest(
                launcher=Launcher(binary=self.folder / "launcher", version="0.1.0"), **request
            ),
            progress=progress,
        )
        pairs = [
            (layer, f"kept-{self.builds}-{number}") for number, layer in enumerate(exported.layers)
        ]
        return Outcome(
            analyzed,
            detected,
            restored,
            built,
            exported,
            kept_layers(exported, context, pairs),
            environment,
            progress,
        )


def read_catalog(environment: BuildEnvironment) -> Catalog:
    """Every `buildpack.toml` of a container."""
    found = []
    for folder in environment.list_directory(BUILDPACKS_DIRECTORY) or ():
        for version in environment.list_directory(f"{BUILDPACKS_DIRECTORY}/{folder.name}") or ():
            path = f"{BUILDPACKS_DIRECTORY}/{folder.name}/{version.name}/buildpack.toml"
            found.append(parse_buildpack(environment.read_file(path) or b"", name=path))
    return Catalog.of(found)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with its links as links."""
    target.mkdir(parents=True, exist_ok=True)
    for entry in os.scandir(source):
        destination = target / entry.name
        if entry.is_symlink():
            destination.symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            copy_tree(Path(entry.path), destination)
        else:
            destination.write_bytes(Path(entry.path).read_bytes())
            destination.chmod(entry.stat().st_mode)
