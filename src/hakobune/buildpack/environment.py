"""The environment of buildpacks' executables: files that change variables, and layers' POSIX folders (pure).

CNB buildpack.md "Environment Variable Modification Rules" and "Layer Paths". Values are text in which bytes
that are not UTF-8 are kept as surrogates, as `os.environ` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from hakobune.errors import HakoError

Environment: TypeAlias = Mapping[str, str]
Files: TypeAlias = Mapping[str, bytes]
Action: TypeAlias = Literal["override", "default"]

PATH_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "LIBRARY_PATH", "CPATH", "PKG_CONFIG_PATH")
"""Variables to which the user's environment is prepended instead of replacing them."""

INHERITED_VARIABLES = (
    "CNB_STACK_ID",
    "HOSTNAME",
    "HOME",
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
    *PATH_VARIABLES,
)
"""What buildpacks see of the build image's own environment."""

BUILD_DIRECTORIES = {
    "bin": ("PATH",),
    "lib": ("LD_LIBRARY_PATH", "LIBRARY_PATH"),
    "include": ("CPATH",),
    "pkgconfig": ("PKG_CONFIG_PATH",),
}
"""A build layer's folders and the variables to which they are prepended."""


def inherit(image: Environment, extra: Environment) -> dict[str, str]:
    """The environment from which every buildpack starts.

    Args:
        image: the build image's variables, of which those in `INHERITED_VARIABLES` are taken.
        extra: what the platform adds as it is (proxies, certificate authorities).
    """
    return {k: v for k, v in image.items() if k in INHERITED_VARIABLES} | dict(extra)


def apply_env_files(
    env: Environment, files: Files, *, folder: str, unsuffixed: Action = "override"
) -> dict[str, str]:
    """Apply a folder of `NAME[.action]` files in lexical order.

    `append` and `prepend` put the contents of `NAME.delim` between the values; nothing is trimmed. An
    unknown action is ignored.

    Args:
        folder: where the files come from, for the error.
        unsuffixed: what a file without an action does.

    Raises:
        HakoError: a file's contents cannot be a variable (it holds a NUL byte).
    """
    result = dict(env)
    for file in sorted(files):
        variable, _, action = file.partition(".")
        if not variable or "=" in variable:
            continue
        value = _value(files[file], f"{folder}/{file}")
        delimiter = _value(files.get(f"{variable}.delim", b""), f"{folder}/{variable}.delim")
        old = result.get(variable, "")
        match action or unsuffixed:
            case "override":
                result[variable] = value
            case "default":
                result[variable] = old or value
            case "append":
                result[variable] = old + delimiter + value if old else value
            case "prepend":
                result[variable] = value + delimiter + old if old else value
            case _:
                pass
    return result


def apply_layer_directories(env: Environment, layer: str, present: Iterable[str]) -> dict[str, str]:
    """Prepend a layer's `bin`, `lib`, … to the variables they belong to.

    Args:
        layer: the layer's absolute path.
        present: names of the folders that the layer has.
    """
    result = dict(env)
    names = set(present)
    for name, variables in BUILD_DIRECTORIES.items():
        if name in names:
            for variable in variables:
                old = result.get(variable, "")
                result[variable] = f"{layer}/{name}:{old}" if old else f"{layer}/{name}"
    return result


def apply_user_env(env: Environment, files: Files, *, folder: str) -> dict[str, str]:
    """Lay the user's `<platform>/env` over *env*: path variables in front, everything else instead.

    Raises:
        HakoError: a file's contents cannot be a variable.
    """
    result = dict(env)
    for name in sorted(files):
        value = _value(files[name], f"{folder}/{name}")
        old = result.get(name, "")
        result[name] = f"{value}:{old}" if name in PATH_VARIABLES and old else value
    return result


def _value(contents: bytes, file: str) -> str:
    if b"\0" in contents:
        raise HakoError(
            f"{file} cannot be an environment variable",
            why="it holds a NUL byte",
            fix="write text into it",
        )
    return os.fsdecode(contents)
