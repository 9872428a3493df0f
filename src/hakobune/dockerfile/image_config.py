"""What an instruction does to an image's configuration and history. Pure; instructions come with their variables replaced.

The history says what BuildKit's says, in the same words.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from posixpath import join, normpath

from msgspec.structs import replace

from hakobune.dockerfile.instructions import (
    Add,
    Cmd,
    CommandLine,
    Copy,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from hakobune.dockerfile.remote_url import shown
from hakobune.oci import config as oci
from hakobune.oci.config import ContainerConfig, History, ImageConfig, RootFs
from hakobune.oci.platform import Platform

COMMENT = "hakobune.dockerfile.v0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL = ("/bin/sh", "-c")


def scratch_config(platform: Platform) -> ImageConfig:
    """What `FROM scratch` begins with."""
    return ImageConfig(
        architecture=platform.architecture,
        variant=platform.variant,
        os=platform.os,
        config=ContainerConfig(env=(f"PATH={DEFAULT_PATH}",), working_dir="/"),
        rootfs=RootFs(),
    )


def begin_stage(base: ImageConfig) -> ImageConfig:
    """A base image's configuration as a stage starts with it: triggers have fired, a `PATH` is there."""
    config = base.config
    if not any(entry.startswith("PATH=") for entry in config.env):
        config = replace(config, env=(*config.env, f"PATH={DEFAULT_PATH}"))
    return replace(base, config=replace(config, on_build=()), created="")


def apply(
    config: ImageConfig, instruction: Instruction, *, cmd_is_set: bool = False
) -> ImageConfig:
    """The configuration after an instruction that makes no layer, with its line of history.

    Args:
        cmd_is_set: the stage itself has had a CMD, which ENTRYPOINT then leaves alone.
    """
    return with_history(
        _configured(config, instruction, cmd_is_set), _created_by(config, instruction)
    )


def with_history(config: ImageConfig, created_by: str, *, layer: bool = False) -> ImageConfig:
    """The configuration with one more line of history; its time is set by `date_history`."""
    if not created_by:
        return config
    entry = History(created_by=created_by, comment=COMMENT, empty_layer=not layer)
    return replace(config, history=(*config.history, entry))


def date_history(
    config: ImageConfig, layer_times: Sequence[str], *, before: int, base_created: str
) -> ImageConfig:
    """Give each line that this build added a time: its layer's, or that of the layer before it.

    So a build of the same steps from the cache gives the same image.

    Args:
        layer_times: one a layer that this build added, in order (RFC 3339).
        before: how many lines the base image's history has.
        base_created: when the base image was made; empty if that is not known.
    """
    times = iter(layer_times)
    now = base_created
    dated = list(config.history[:before])
    for entry in config.history[before:]:
        now = now if entry.empty_layer else next(times)
        dated.append(replace(entry, created=now))
    return replace(config, history=tuple(dated), created=now)


def set_env(env: Iterable[str], name: str, value: str) -> tuple[str, ...]:
    """The list with the variable at its old place, or at the end."""
    entries = list(env)
    for number, entry in enumerate(entries):
        if entry.partition("=")[0] == name:
            entries[number] = f"{name}={value}"
            return tuple(entries)
    return (*entries, f"{name}={value}")


def working_dir(config: ImageConfig, path: str) -> str:
    """An absolute path: *path* as seen from the configuration's WORKDIR."""
    joined = normpath(join("/", config.config.working_dir or "/", path))
    return joined.replace("//", "/", 1) if joined.startswith("//") else joined


def new_working_dir(config: ImageConfig, path: str) -> str:
    """What WORKDIR makes of its path: one that is absolute stays as it is written."""
    return path if path.startswith("/") else working_dir(config, path)


def argv_of(config: ImageConfig, command: CommandLine) -> tuple[str, ...]:
    """The words to execute: a shell form stands behind the configuration's SHELL."""
    if not command.shell:
        return command.words
    return (*(config.config.shell or DEFAULT_SHELL), *command.words)


def run_created_by(argv: Sequence[str], arguments: Mapping[str, str]) -> str:
    """The history of a RUN: the ARGs it could see are in it, and nothing that a secret holds."""
    shown = [f"|{len(arguments)}", *(f"{k}={v}" for k, v in arguments.items())] if arguments else []
    return " ".join(["RUN", *shown, *argv])


def transfer_created_by(instruction: Copy | Add) -> str:
    """The history of a COPY or ADD."""
    words = [instruction.keyword]
    if isinstance(instruction, Copy) and instruction.parents:
        words.append("--parents")
    if instruction.chown:
        words.append(f"--chown={instruction.chown}")
    if instruction.chmod:
        words.append(f"--chmod={instruction.chmod}")
    words += map(shown, instruction.sources)  # a password in a URL is for its host
    words += (f"<<{file.name}" for file in instruction.files)
    return " ".join([*words, instruction.destination])


def _configured(config: ImageConfig, instruction: Instruction, cmd_is_set: bool) -> ImageConfig:
    old = config.config
    match instruction:
        case Env():
            env = old.env
            for variable in instruction.variables:
                env = set_env(env, variable.key, variable.given)
            new = replace(old, env=env)
        case Label():
            labels = {**old.labels, **{label.key: label.given for label in instruction.labels}}
            new = replace(old, labels=dict(sorted(labels.items())))
        case User():
            new = replace(old, user=instruction.user)
        case Workdir():
            new = replace(old, working_dir=new_working_dir(config, instruction.path))
        case Expose():
            ports = {**old.exposed_ports, **{port: {} for port in instruction.ports}}
            new = replace(old, exposed_ports=dict(sorted(ports.items())))
        case Volume():
            volumes = {**old.volumes, **{path: {} for path in instruction.paths}}
            new = replace(old, volumes=dict(sorted(volumes.items())))
        case Stopsignal():
            new = replace(old, stop_signal=instruction.signal)
        case Shell():
            new = replace(old, shell=instruction.words)
        case Healthcheck():
            new = replace(old, healthcheck=_healthcheck(instruction))
        case Cmd():
            new = replace(old, cmd=argv_of(config, instruction.command), args_escaped=True)
        case Entrypoint():
            entrypoint = argv_of(config, instruction.command)
            cmd = old.cmd if cmd_is_set else ()
            new = replace(old, entrypoint=entrypoint, cmd=cmd)
        case Onbuild():
            new = replace(old, on_build=(*old.on_build, instruction.expression))
        case Maintainer():
            return replace(config, author=instruction.name)
        case _:
            new = old
    return replace(config, config=new)


def _healthcheck(instruction: Healthcheck) -> oci.Healthcheck:
    return oci.Healthcheck(
        test=instruction.test,
        interval=instruction.interval_ns,
        timeout=instruction.timeout_ns,
        start_period=instruction.start_period_ns,
        start_interval=instruction.start_interval_ns,
        retries=instruction.retries,
    )


def _created_by(config: ImageConfig, instruction: Instruction) -> str:
    match instruction:
        case Env():
            return "ENV " + " ".join(f"{v.key}={v.given}" for v in instruction.variables)
        case Label():
            return "LABEL " + " ".join(f"{v.key}={v.given}" for v in instruction.labels)
        case User():
            return f"USER {instruction.user}"
        case Workdir():
            return f"WORKDIR {new_working_dir(config, instruction.path)}"
        case Expose():
            return f"EXPOSE [{' '.join(instruction.ports)}]"
        case Volume():
            return f"VOLUME [{' '.join(instruction.paths)}]"
        case Stopsignal():
            return f"STOPSIGNAL {instruction.signal}"
        case Shell():
            return f"SHELL [{' '.join(instruction.words)}]"
        case Cmd():
            return f"CMD {_quoted(argv_of(config, instruction.command))}"
        case Entrypoint():
            return f"ENTRYPOINT {_quoted(argv_of(config, instruction.command))}"
        case Maintainer():
            return f"MAINTAINER {instruction.name}"
        case Healthcheck():
            return f"HEALTHCHECK {_go_struct(instruction)}"
        case Onbuild() | Run():
            return ""
        case _:
            return instruction.text


def _go_struct(check: Healthcheck) -> str:
    """As Go's `%+v` shows it."""
    times = (
        ("Interval", check.interval_ns),
        ("Timeout", check.timeout_ns),
        ("StartPeriod", check.start_period_ns),
        ("StartInterval", check.start_interval_ns),
    )
    shown = " ".join(f"{name}:{_go_duration(value)}" for name, value in times)
    return f"{{Test:[{' '.join(check.test)}] {shown} Retries:{check.retries}}}"


def _go_duration(nanoseconds: int) -> str:
    """As Go shows a time.Duration: `1m0s`, `500ms`, `1.5s`."""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
        if nanoseconds < size * 1000:
            return f"{nanoseconds / size:.9f}".rstrip("0").rstrip(".") + unit
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    seconds = f"{rest / 10**9:.9f}".rstrip("0").rstrip(".") + "s"
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds


def _quoted(words: Sequence[str]) -> str:
    """As Go's `%q` shows a list."""
    return "[" + " ".join(json.dumps(word, ensure_ascii=False) for word in words) + "]"
