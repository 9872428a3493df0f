"""The layers of the base images: each a tree made from packages, written, and kept as the layer's snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hakobune.builds.base_tree import TreePlan
from hakobune.builds.build_tree import make_build_tree
from hakobune.builds.package_lock import Package, PackageLock
from hakobune.builds.run_tree import make_run_tree
from hakobune.builds.tiny_tree import make_tiny_tree
from hakobune.oci.base_layer import write_base_layer
from hakobune.oci.layer import Layer
from hakobune.oci.store import Store
from hakobune.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseLayers:
    """One a tree; the build image has that of `run` below its own."""

    run: Layer
    build: Layer
    tiny: Layer


def make_layers(
    store: Store,
    plan: TreePlan,
    lock: PackageLock,
    files: Mapping[Package, Path],
    folder: Path,
    progress: Progress,
) -> BaseLayers:
    """Make the trees, write each as a layer and keep the tree itself as the layer's snapshot.

    Args:
        folder: a scratch folder.

    Raises:
        HakoError: a tool of the machine is missing or has failed.
    """
    run_packages, build_packages = lock.of("run"), lock.of("build")
    progress.step(f"1/3 run image: {len(run_packages)} packages")
    run = make_run_tree([files[package] for package in run_packages], plan, folder)
    # dpkg and the layer writer are each busy with one core.
    with ThreadPoolExecutor(max_workers=1) as pool:
        more = [files[package] for package in build_packages]
        building: Future[Path] = pool.submit(make_build_tree, run, more, plan, folder)
        progress.step(f"2/3 tiny run image: the files of {len(plan.tiny)} packages")
        tiny = make_tiny_tree(run, plan, folder)
        tiny_layer = write_base_layer(store, tiny, latest_mtime=plan.epoch)
        run_layer = write_base_layer(store, run, latest_mtime=plan.epoch)
        progress.step(f"3/3 build image: {len(build_packages)} packages more")
        build = building.result()
    build_layer = write_base_layer(store, build, latest_mtime=plan.epoch)
    for tree, layer in ((run, run_layer), (build, build_layer), (tiny, tiny_layer)):
        store.adopt(tree, layer.diff_id)
    return BaseLayers(run=run_layer, build=build_layer, tiny=tiny_layer)
