"""`buildpack.toml`: what a buildpack is, what it runs on, and which others it is made of.

CNB buildpack.md "buildpack.toml (TOML)". Read leniently: real buildpacks carry keys of their own.
Where specification and practice spell a key differently, both are understood and one is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar

import msgspec

from hakobune.buildpack.document import TomlDocument, suggest
from hakobune.buildpack.target import Distribution, Target
from hakobune.errors import HakoError

BUILDPACKS_DIRECTORY = "/cnb/buildpacks"
SBOM_MEDIA_TYPES = {
    "cdx": "application/vnd.cyclonedx+json",
    "spdx": "application/spdx+json",
    "syft": "application/vnd.syft+json",
}
"""SBOM media types by the extension of their files (`launch.sbom.cdx.json`)."""

_ID = re.compile(r"[A-Za-z0-9./-]+")
_RESERVED_IDS = ("app", "config", "generated", "sbom")
_BIONIC = "io.buildpacks.stacks.bionic"


class BuildpackApiError(HakoError):
    """A buildpack asks for a Buildpack API that is not supported."""

    exit_code = 12


class BuildpackApi(msgspec.Struct, frozen=True, order=True):
    """A Buildpack API version; `0.9` is lower than `0.10`."""

    major: int
    minor: int

    OLDEST: ClassVar[BuildpackApi]
    NEWEST: ClassVar[BuildpackApi]

    @classmethod
    def parse(cls, text: str, *, of: str) -> BuildpackApi:
        """Read the `api` that the buildpack *of* declares.

        Raises:
            BuildpackApiError: not a version, or one that is not supported (exit code 12).
        """
        match = re.fullmatch(r"(\d+)(?:\.(\d+))?", text.strip())
        supported = f"Buildpack API {cls.OLDEST} to {cls.NEWEST} are supported"
        if match is None:
            raise BuildpackApiError(
                f"buildpack {of} declares the Buildpack API {text!r}",
                why=f"that is not a version; {supported}",
                fix='write for example api = "0.12" in its buildpack.toml',
            )
        api = cls(int(match[1]), int(match[2] or 0))
        if not cls.OLDEST <= api <= cls.NEWEST:
            raise BuildpackApiError(
                f"buildpack {of} needs the Buildpack API {api}",
                why=supported,
                fix="use a newer version of the buildpack"
                if api < cls.OLDEST
                else "use an older version of the buildpack, or a newer hako",
            )
        return api

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


BuildpackApi.OLDEST = BuildpackApi(0, 8)
BuildpackApi.NEWEST = BuildpackApi(0, 12)


class Stack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The older way to say what a buildpack runs on."""

    id: str
    mixins: tuple[str, ...] = ()


class GroupElement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="kebab"):
    """A buildpack as orders and groups name it.

    `version` may be empty in an order of a builder that holds only one. `api` and `homepage` are
    filled when a group has been chosen (`group.toml`).
    """

    id: str
    version: str = ""
    api: str = ""
    homepage: str = ""
    optional: bool = False
    exec_env: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        return f"{self.id}@{self.version}" if self.version else self.id

    @property
    def directory_name(self) -> str:
        """The id as it is spelled in paths."""
        return escape_id(self.id)

    def __str__(self) -> str:
        return f"{self.id} {self.version}".rstrip()


class OrderGroup(msgspec.Struct, frozen=True, kw_only=True):
    """One alternative of an order."""

    group: tuple[GroupElement, ...]


Order = tuple[OrderGroup, ...]


class License(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    type: str = ""
    uri: str = ""


class BuildpackTable(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="kebab"):
    """`[buildpack]`."""

    id: str
    version: str
    name: str = ""
    homepage: str = ""
    description: str = ""
    keywords: tuple[str, ...] = ()
    licenses: tuple[License, ...] = ()
    clear_env: bool = False
    sbom_formats: tuple[str, ...] = ()
    exec_env: tuple[str, ...] = ()


class Buildpack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A buildpack's description: a component with executables, or a composite with an order."""

    api: str
    buildpack: BuildpackTable
    targets: tuple[Target, ...] = ()
    stacks: tuple[Stack, ...] = ()
    order: Order = ()
    metadata: dict[str, Any] = {}

    @property
    def id(self) -> str:
        return self.buildpack.id

    @property
    def version(self) -> str:
        return self.buildpack.version

    @property
    def full_name(self) -> str:
        return f"{self.id}@{self.version}"

    @property
    def is_composite(self) -> bool:
        return bool(self.order)

    @property
    def api_version(self) -> BuildpackApi:
        """The declared API.

        Raises:
            BuildpackApiError: it is not supported.
        """
        return BuildpackApi.parse(self.api, of=self.full_name)

    @property
    def directory(self) -> str:
        """Where a builder image holds it."""
        return f"{BUILDPACKS_DIRECTORY}/{escape_id(self.id)}/{self.version}"

    def runs_in(self, exec_env: str) -> bool:
        """Whether it takes part in builds for the execution environment *exec_env*."""
        return allows_exec_env(self.buildpack.exec_env, exec_env)

    def declares_sbom(self, extension: str) -> bool:
        """Whether `sbom-formats` allows files named `….sbom.<extension>.json`."""
        declared = {f.split(";")[0].strip().lower() for f in self.buildpack.sbom_formats}
        return SBOM_MEDIA_TYPES.get(extension) in declared


def escape_id(buildpack_id: str) -> str:
    """An id as a single folder name (CNB buildpack.md "Escaped buildpack ids")."""
    return buildpack_id.replace("/", "_")


def allows_exec_env(listed: Iterable[str], exec_env: str) -> bool:
    """Whether a list of execution environments includes *exec_env*; an empty one includes all."""
    names = tuple(listed)
    return not names or "*" in names or exec_env in names


def parse_buildpack(data: bytes, *, name: str) -> Buildpack:
    """Read `buildpack.toml`; whether its API is supported is asked by `Buildpack.api_version`.

    Raises:
        DocumentError: not TOML.
        InvalidDocumentError: a key is missing, has the wrong type or contradicts another.
    """
    document = TomlDocument.parse(data, name=name)
    _use_one_spelling(document.values)
    document.check(Buildpack, unknown_keys=True)
    _suggest_misspelled(document)
    _check_identity(document)
    for later in ("targets", "stacks"):
        if document.values.get("order") and document.values.get(later):
            document.complain((later,), "a buildpack with an order has neither targets nor stacks")
    return document.to(Buildpack)


def effective_targets(buildpack: Buildpack, *, has_build: bool) -> tuple[Target, ...]:
    """The targets that hold for *buildpack*, stacks and the presence of `bin/build` considered.

    Without targets, a stack id that is known or `*` stands for one; a `bin/build` then means Linux on any
    architecture. An empty answer matches nothing.
    """
    if buildpack.targets:
        return buildpack.targets
    targets: list[Target] = []
    for stack in buildpack.stacks:
        if stack.id == "*":
            targets.append(Target())
        elif stack.id == _BIONIC and (
            buildpack.api_version >= BuildpackApi(0, 10) or len(buildpack.stacks) == 1
        ):
            ubuntu = Distribution(name="ubuntu", version="18.04")
            targets.append(Target(os="linux", arch="amd64", distros=(ubuntu,)))
    if not targets and has_build:
        targets.append(Target(os="linux"))
    return tuple(targets)


def _use_one_spelling(values: dict[str, Any]) -> None:
    """Turn the spellings that practice and specification do not share into the one that we read."""
    table = values.get("buildpack")
    if isinstance(table, dict) and isinstance(table.get("exec-env"), list):
        table["exec-env"] = [
            item.get("name", item) if isinstance(item, dict) else item for item in table["exec-env"]
        ]
    targets = values.get("targets")
    for target in targets if isinstance(targets, list) else ():
        if isinstance(target, dict) and "arch-variant" in target:
            target.setdefault("variant", target.pop("arch-variant"))


_TOP_LEVEL = ("api", "buildpack", "targets", "stacks", "order", "metadata")


def _suggest_misspelled(document: TomlDocument) -> None:
    """Unknown top-level keys are allowed; one that is nearly a known key is a slip."""
    for key in document.values:
        if key not in _TOP_LEVEL and (meant := suggest(key, _TOP_LEVEL)):
            document.complain((key,), f"there is no such key{meant}")


def _check_identity(document: TomlDocument) -> None:
    table = document.values.get("buildpack")
    identity = table.get("id") if isinstance(table, dict) else None
    if not isinstance(identity, str):
        return
    if not _ID.fullmatch(identity):
        document.complain(
            ("buildpack", "id"), f"{identity!r} may hold digits, letters, '.', '/' and '-' only"
        )
    if identity.lower() in _RESERVED_IDS:
        document.complain(("buildpack", "id"), f"{identity!r} is a reserved name")
