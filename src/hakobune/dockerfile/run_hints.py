"""What a failed RUN most likely wants, read out of its exit code, its last words and the image. Pure, but for the question what a file holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from posixpath import join, normpath

from hakobune.dockerfile.instructions import CommandLine

# A line of a shell, or of the program that starts programs: `/bin/sh: 1: /x.sh: not found`, `x: No such file or directory`.
_COMPLAINT = re.compile(
    r"(?:.*: )?(?P<name>[^:]+): (?:command )?(?:not found|No such file or directory|Permission denied)\s*\Z"
)
_INSTALLERS = {
    "apt-get": "/usr/bin/apt-get",
    "apt": "/usr/bin/apt",
    "apk": "/sbin/apk",
    "dnf": "/usr/bin/dnf",
    "yum": "/usr/bin/yum",
    "microdnf": "/usr/bin/microdnf",
    "zypper": "/usr/bin/zypper",
}
_Read = Callable[[str], bytes | None]


def hint(
    command: CommandLine,
    argv: Sequence[str],
    code: int,
    last: Sequence[str],
    read: _Read,
    *,
    cwd: str,
) -> str:
    """What to write instead; empty if nobody can tell.

    Args:
        argv: what was executed.
        last: the last lines of its output.
        read: a file of the image, `None` if there is none of that path.
    """
    if code not in (126, 127):
        return ""
    if command.shell and argv and argv[0].startswith("/") and read(argv[0]) is None:
        return f"the image has no {argv[0]}: do it in a stage of a full image, and COPY --from that stage"
    words = command.words
    if command.shell and words and words[0].lstrip().startswith("["):
        return 'the exec form is a JSON array, in double quotes: RUN ["program", "argument"]'
    if not command.shell and words and " " in words[0]:
        return "in the exec form each word is a text of its own: RUN " + _as_array(words)
    match = _COMPLAINT.fullmatch(last[-1]) if last else None
    name = match["name"].strip() if match else ""
    if name in _INSTALLERS:
        return _other_installer(name, read)
    return _about_file(normpath(join(cwd, name)), code, read) if "/" in name else ""


def _as_array(words: Sequence[str]) -> str:
    split = [*words[0].split(), *words[1:]]
    return "[" + ", ".join(f'"{word}"' for word in split) + "]"


def _other_installer(name: str, read: _Read) -> str:
    there = [
        other for other, path in _INSTALLERS.items() if other != name and read(path) is not None
    ]
    return f"the image has {there[0]}, not {name}" if there else f"the image has no {name}"


def _about_file(path: str, code: int, read: _Read) -> str:
    """A program that is there, and still cannot be started."""
    content = read(path)
    if content is None:
        return ""
    if code == 126:
        return f"{path} may not be executed: COPY --chmod=755, or RUN chmod +x {path} before"
    first = content[:256].split(b"\n")[0]
    if not first.startswith(b"#!"):
        return f"{path} is there; a library or the loader that it needs is not"
    if first.endswith(b"\r"):
        return f"{path} has Windows line ends: save it with those of Unix, or RUN sed -i 's/\\r$//' {path}"
    interpreter = first[2:].decode("utf-8", "replace").split()[:1]
    if interpreter and read(interpreter[0]) is None:
        return f"{path} is there; its interpreter {interpreter[0]} is not in the image"
    return ""
