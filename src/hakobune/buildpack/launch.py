"""How an image is started: processes, slices and labels of `launch.toml`, merged into `metadata.toml`.

CNB buildpack.md "launch.toml (TOML)", platform.md "metadata.toml (TOML)".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import tomli_w

from hakobune.buildpack.descriptor import BuildpackApi, GroupElement
from hakobune.buildpack.document import TomlDocument

_PROCESS_TYPE = re.compile(r"[A-Za-z0-9._-]+")
_COMMAND_IS_AN_ARRAY = BuildpackApi(0, 9)
_HAS_EXEC_ENV = BuildpackApi(0, 12)


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """`[[labels]]`."""

    key: str
    value: str


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """`[[slices]]`: globs of files that become a layer of their own."""

    paths: tuple[str, ...] = ()


class Process(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={"working_dir": "working-dir", "exec_env": "exec-env", "buildpack_id": "buildpack-id"},
):
    """A way to start the image.

    Args:
        command: the executable and arguments that are always given.
        args: arguments that a user's replace (Buildpack API 0.9 and newer) or follow.
        direct: started as it is, not by a shell.
        exec_env: where it may be started; empty means anywhere.
    """

    type: str
    command: tuple[str, ...]
    args: tuple[str, ...] = ()
    direct: bool = True
    default: bool = False
    buildpack_id: str = ""
    working_dir: str = ""
    exec_env: tuple[str, ...] = ()


class ProcessRecord(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    rename={
        "buildpack_id": "buildpackID",
        "working_dir": "working-dir",
        "exec_env": "exec-env",
    },
):
    """A process in `io.buildpacks.build.metadata`."""

    type: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    direct: bool
    buildpack_id: str
    working_dir: str = ""
    exec_env: tuple[str, ...] = ()

    @classmethod
    def of(cls, process: Process) -> ProcessRecord:
        return cls(
            type=process.type,
            command=process.command,
            args=process.args,
            direct=process.direct,
            buildpack_id=process.buildpack_id,
            working_dir=process.working_dir,
            exec_env=process.exec_env,
        )


class LaunchToml(msgspec.Struct, frozen=True, kw_only=True):
    """What one buildpack says about starting the image."""

    processes: tuple[Process, ...] = ()
    slices: tuple[Slice, ...] = ()
    labels: tuple[Label, ...] = ()


class _Launch(msgspec.Struct, frozen=True, kw_only=True):
    processes: tuple[Process, ...] = ()
    slices: tuple[Slice, ...] = ()
    labels: tuple[Label, ...] = ()


class Processes(msgspec.Struct, frozen=True):
    """Processes by type, and which of them starts when nobody chooses."""

    processes: tuple[Process, ...] = ()
    default: str = ""

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(p.type for p in self.processes)


class LaunchMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """`<layers>/config/metadata.toml`: everything the launcher has to know."""

    buildpacks: tuple[GroupElement, ...]
    processes: Processes = Processes()
    slices: tuple[Slice, ...] = ()
    labels: tuple[Label, ...] = ()


def parse_launch_toml(
    data: bytes, *, name: str, api: BuildpackApi, buildpack_id: str
) -> LaunchToml:
    """Read the `launch.toml` that a buildpack of *api* wrote.

    Before 0.9 a command is one string and a shell runs it unless `direct = true`; from 0.9 on it
    is an array and `direct` may not be written.

    Raises:
        DocumentError: not TOML.
        InvalidDocumentError: anything else that is wrong, all of it.
    """
    document = TomlDocument.parse(data, name=name)
    processes = document.values.get("processes")
    for index, process in enumerate(processes if isinstance(processes, list) else ()):
        if isinstance(process, dict):
            _normalise(process, document, index, api)
    document.check(_Launch, unknown_keys=True)
    _check_processes(document)
    launch = document.to(_Launch)
    return LaunchToml(
        processes=tuple(
            msgspec.structs.replace(p, buildpack_id=buildpack_id) for p in launch.processes
        ),
        slices=launch.slices,
        labels=launch.labels,
    )


def merge_processes(
    merged: Processes, added: Sequence[Process]
) -> tuple[Processes, tuple[str, ...]]:
    """Add a later buildpack's processes; of one type the later counts.

    Returns:
        the merged processes, sorted by type, and the types that stopped being the default because they
        were redefined without it.
    """
    by_type = {p.type: p for p in merged.processes}
    default = merged.default
    lost: list[str] = []
    for process in added:
        if process.default:
            default = process.type
        elif process.type == default:
            lost.append(default)
            default = ""
        by_type[process.type] = msgspec.structs.replace(process, default=False)
    ordered = tuple(by_type[t] for t in sorted(by_type))
    return Processes(ordered, default), tuple(lost)


def encode_launch_metadata(metadata: LaunchMetadata) -> bytes:
    """`metadata.toml` as the launcher reads it (Platform API 0.10 and newer)."""
    document: dict[str, Any] = {}
    if metadata.processes.default:
        document["buildpack-default-process-type"] = metadata.processes.default
    document["buildpacks"] = [
        {"id": b.id, "version": b.version, "api": b.api}
        | ({"homepage": b.homepage} if b.homepage else {})
        for b in metadata.buildpacks
    ]
    document["labels"] = [{"key": label.key, "value": label.value} for label in metadata.labels]
    document["processes"] = [_process_toml(p) for p in metadata.processes.processes]
    document["slices"] = [{"paths": list(s.paths)} for s in metadata.slices]
    return tomli_w.dumps({k: v for k, v in document.items() if v}).encode()


def labels_of(labels: Iterable[Label]) -> dict[str, str]:
    """Labels for the image; of one key the last value."""
    return {label.key: label.value for label in labels}


def _normalise(
    process: dict[str, Any], document: TomlDocument, index: int, api: BuildpackApi
) -> None:
    at = ("processes", index)
    command = process.get("command")
    if api >= _COMMAND_IS_AN_ARRAY:
        if "direct" in process:
            document.complain(
                (*at, "direct"), "is not known since Buildpack API 0.9: processes start directly"
            )
        if isinstance(command, str):
            document.complain((*at, "command"), f'is an array: command = ["{command}"]')
            process["command"] = [command]
    else:
        process.setdefault("direct", False)
        if isinstance(command, str):
            process["command"] = [command]
        elif command is not None:
            document.complain((*at, "command"), f"is a string in Buildpack API {api}")
    if api < _HAS_EXEC_ENV:
        process.pop("exec-env", None)


def _check_processes(document: TomlDocument) -> None:
    processes = document.values.get("processes")
    tables = [p for p in processes if isinstance(p, dict)] if isinstance(processes, list) else []
    for index, process in enumerate(tables):
        type_ = process.get("type")
        if isinstance(type_, str) and not _PROCESS_TYPE.fullmatch(type_):
            document.complain(
                ("processes", index, "type"),
                f"{type_!r} may hold digits, letters, '.', '_' and '-' only",
            )
        if process.get("command") in ([], [""]):
            document.complain(("processes", index, "command"), "is empty")
    defaults = [str(p.get("type")) for p in tables if p.get("default") is True]
    if len(defaults) > 1:
        document.complain((), f"more than one process is the default: {', '.join(defaults)}")


def _process_toml(process: Process) -> dict[str, Any]:
    table: dict[str, Any] = {
        "type": process.type,
        "command": list(process.command),
        "args": list(process.args),
        "direct": process.direct,
        "buildpack-id": process.buildpack_id,
    }
    if process.working_dir:
        table["working-dir"] = process.working_dir
    table["exec-env"] = list(process.exec_env) or ["*"]
    return table
