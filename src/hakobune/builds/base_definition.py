"""What goes into the base images: `base.toml`, the lock beside it, and one digest of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hakobune.builds.base_tree import TreePlan
from hakobune.builds.debian_archive import Archive
from hakobune.errors import HakoError
from hakobune.oci.digest import Digest
from hakobune.oci.platform import Platform
from hakobune.support.files import read_toml

DEFINITION: Final = Path(__file__).parents[3] / "builders/debian"
_DESCRIPTION: Final = "base.toml"
LOCK_FILE: Final = "packages.lock"
ARCHITECTURES: Final = ("amd64", "arm64")
# Changes when other images are made of the same packages, so that kept ones are made anew.
RECIPE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """`base.toml`: what goes into the images, apart from versions."""

    version: str
    stack: str
    archive: Archive
    left_out: tuple[str, ...]
    kept: tuple[str, ...]
    left_out_of_build: tuple[str, ...]
    tiny: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Definition:
        """That of *folder*."""
        return cls.from_document(read_toml(folder / _DESCRIPTION))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Definition:
        """The definition in a parsed `base.toml`."""
        debian, packages, left_out = (document[k] for k in ("debian", "packages", "left-out"))
        return cls(
            version=debian["version"],
            stack=debian["stack"],
            archive=Archive(
                suite=debian["suite"],
                mirrors=document["mirrors"],
                run=tuple(packages["run"]),
                build=tuple(packages["build"]),
            ),
            left_out=tuple(left_out["all"]),
            kept=tuple(left_out["kept"]),
            left_out_of_build=tuple(left_out["build"]),
            tiny=tuple(packages["tiny"]),
        )

    def tree_plan(self, epoch: int, architecture: str) -> TreePlan:
        return TreePlan(
            architecture=architecture,
            suite=self.archive.suite,
            mirrors=self.archive.mirrors,
            left_out=self.left_out,
            kept=self.kept,
            left_out_of_build=self.left_out_of_build,
            tiny=self.tiny,
            epoch=epoch,
        )


def check_architecture(platform: Platform) -> None:
    """See that there are packages for it.

    Raises:
        HakoError: there are none.
    """
    if not any(platform.matches(Platform("linux", name)) for name in ARCHITECTURES):
        raise HakoError(
            f"there is no builder for {platform}",
            why=f"hako makes its own for {' and '.join(f'linux/{name}' for name in ARCHITECTURES)}",
            fix="name one that is for it: --builder IMAGE, or build from a Dockerfile",
        )


def base_inputs(folder: Path, platform: Platform) -> Digest:
    """What the base images of a platform depend on, as one digest."""
    parts = [(folder / name).read_bytes() for name in (_DESCRIPTION, LOCK_FILE)]
    parts.append(f"{RECIPE} {platform}".encode())
    return Digest.of(b"\0".join(bytes.fromhex(Digest.of(part).hex) for part in parts))
