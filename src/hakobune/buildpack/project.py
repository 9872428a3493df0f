"""`project.toml`: how a source folder wants to be built.

Project descriptor 0.1 and 0.2, with `exec-env` as pack's 0.3 has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hakobune.buildpack.descriptor import License, allows_exec_env
from hakobune.buildpack.document import TomlDocument

SCHEMA_VERSIONS = ("0.1", "0.2", "0.3")


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A buildpack written into the project descriptor."""

    api: str
    inline: str
    shell: str = "/bin/sh"


class ProjectBuildpack(msgspec.Struct, frozen=True, kw_only=True, rename={"exec_env": "exec-env"}):
    """A buildpack that the project asks for: by id and version, by place, or written here."""

    id: str = ""
    version: str = ""
    uri: str = ""
    script: Script | None = None
    exec_env: tuple[str, ...] = ()


class BuildEnv(msgspec.Struct, frozen=True, kw_only=True, rename={"exec_env": "exec-env"}):
    name: str
    value: str
    exec_env: tuple[str, ...] = ()


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """What a project descriptor says, whichever schema it is written in."""

    id: str = ""
    name: str = ""
    version: str = ""
    source_url: str = ""
    builder: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    buildpacks: tuple[ProjectBuildpack, ...] = ()
    pre: tuple[ProjectBuildpack, ...] = ()
    post: tuple[ProjectBuildpack, ...] = ()
    build_env: tuple[tuple[str, str], ...] = ()
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)


class _ProjectTable(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    id: str = ""
    name: str = ""
    version: str = ""
    authors: tuple[str, ...] = ()
    documentation_url: str = ""
    source_url: str = ""
    licenses: tuple[License, ...] = ()


class _Schema2Table(_ProjectTable, frozen=True, kw_only=True, rename="kebab"):
    schema_version: str
    metadata: dict[str, Any] = {}


class _BuildTable(msgspec.Struct, frozen=True, kw_only=True):
    builder: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    buildpacks: tuple[ProjectBuildpack, ...] = ()
    env: tuple[BuildEnv, ...] = ()


class _Schema1(msgspec.Struct, frozen=True, kw_only=True):
    project: _ProjectTable = _ProjectTable()
    build: _BuildTable = _BuildTable()
    metadata: dict[str, Any] = {}


class _Groups(msgspec.Struct, frozen=True, kw_only=True):
    group: tuple[ProjectBuildpack, ...] = ()


class _BuildEnvTable(msgspec.Struct, frozen=True, kw_only=True):
    env: tuple[BuildEnv, ...] = ()


class _OldEnvTable(msgspec.Struct, frozen=True, kw_only=True):
    build: tuple[BuildEnv, ...] = ()


class _Buildpacks(msgspec.Struct, frozen=True, kw_only=True):
    builder: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    group: tuple[ProjectBuildpack, ...] = ()
    pre: _Groups = _Groups()
    post: _Groups = _Groups()
    build: _BuildEnvTable = _BuildEnvTable()
    env: _OldEnvTable = _OldEnvTable()


class _Io(msgspec.Struct, frozen=True, kw_only=True):
    buildpacks: _Buildpacks = _Buildpacks()


class _Schema2(msgspec.Struct, frozen=True, kw_only=True, rename={"about": "_"}):
    about: _Schema2Table
    io: _Io = _Io()


def parse_project(data: bytes, *, name: str, exec_env: str = "production") -> Project:
    """Read `project.toml`; entries that are not for *exec_env* are left out.

    Raises:
        DocumentError: not TOML.
        InvalidDocumentError: unknown keys of the tables that builds read, wrong types, contradictions.
    """
    document = TomlDocument.parse(data, name=name)
    about = document.values.get("_")
    schema = about.get("schema-version", "0.2") if isinstance(about, dict) else "0.1"
    if schema not in SCHEMA_VERSIONS:
        document.complain(
            ("_", "schema-version"),
            f"{schema!r} is not supported (supported are {', '.join(SCHEMA_VERSIONS)})",
        )
    if schema == "0.1":
        return _from_schema_1(document, exec_env)
    return _from_schema_2(document, exec_env)


def _from_schema_1(document: TomlDocument, exec_env: str) -> Project:
    _check(document, _Schema1, ("build",), ("buildpacks",))
    parsed = document.to(_Schema1)
    return Project(
        id=parsed.project.id,
        name=parsed.project.name,
        version=parsed.project.version,
        source_url=parsed.project.source_url,
        builder=parsed.build.builder,
        include=parsed.build.include,
        exclude=parsed.build.exclude,
        buildpacks=_for_env(parsed.build.buildpacks, exec_env),
        build_env=_variables(parsed.build.env, exec_env),
        metadata=parsed.metadata,
    )


def _from_schema_2(document: TomlDocument, exec_env: str) -> Project:
    _check(document, _Schema2, ("io", "buildpacks"), ("group", "pre.group", "post.group"))
    parsed = document.to(_Schema2)
    build = parsed.io.buildpacks
    return Project(
        id=parsed.about.id,
        name=parsed.about.name,
        version=parsed.about.version,
        source_url=parsed.about.source_url,
        builder=build.builder,
        include=build.include,
        exclude=build.exclude,
        buildpacks=_for_env(build.group, exec_env),
        pre=_for_env(build.pre.group, exec_env),
        post=_for_env(build.post.group, exec_env),
        build_env=_variables((*build.env.build, *build.build.env), exec_env),
        metadata=parsed.about.metadata,
    )


def _check(
    document: TomlDocument,
    schema: type[msgspec.Struct],
    build: tuple[str, ...],
    groups: Iterable[str],
) -> None:
    """Other tools keep tables of their own beside `io.buildpacks`; inside it a slip is a slip."""
    document.check(schema, unknown_keys=True, strict_below=build)
    table = _table(document.values, build)
    if table.get("include") and table.get("exclude"):
        document.complain((*build, "exclude"), "include and exclude exclude each other")
    for group in groups:
        path = (*build, *group.split("."))
        entries = _table(document.values, path[:-1]).get(path[-1])
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict):
                _check_entry(document, (*path, index), entry)


def _check_entry(document: TomlDocument, at: tuple[str | int, ...], entry: dict[str, Any]) -> None:
    if not any(entry.get(key) for key in ("id", "uri", "script")):
        document.complain(at, "needs an id, a uri or a script")
    if entry.get("uri") and (entry.get("version") or entry.get("script")):
        document.complain(at, "version, uri and script exclude each other")


def _table(values: dict[str, Any], path: Iterable[str]) -> dict[str, Any]:
    for key in path:
        inner = values.get(key)
        if not isinstance(inner, dict):
            return {}
        values = inner
    return values


def _for_env(entries: Iterable[ProjectBuildpack], exec_env: str) -> tuple[ProjectBuildpack, ...]:
    return tuple(e for e in entries if allows_exec_env(e.exec_env, exec_env))


def _variables(entries: Iterable[BuildEnv], exec_env: str) -> tuple[tuple[str, str], ...]:
    return tuple((e.name, e.value) for e in entries if allows_exec_env(e.exec_env, exec_env))
