"""Procfile lines and shell text turned into processes."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

LINE = re.compile(r"^([A-Za-z0-9_-]+):\s*(\S.*?)\s*$")
BUILTINS = frozenset((".", "cd", "eval", "export", "set", "source", "ulimit", "umask", "unset"))


class Command(NamedTuple):
    """How a process is started: *argv*, and whether that needs a shell in the image."""

    argv: tuple[str, ...]
    needs_shell: bool = False


def parse_procfile(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Process types with their text, and what was wrong with the lines that are left out."""
    processes: dict[str, str] = {}
    complaints = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = LINE.match(line)
        if not match:
            complaints.append(f"Procfile:{number} is not `name: command`; it is left out")
        elif match[1] in processes:
            complaints.append(f"Procfile:{number} names {match[1]!r} again; the first one counts")
        else:
            processes[match[1]] = match[2]
    return processes, tuple(complaints)


def to_command(text: str) -> Command:
    """Split *text* if it is plain words, else leave it to bash."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
    if words[:1] == ["exec"]:
        words = words[1:]
    if not words or _has_shell_syntax(text) or "=" in words[0] or words[0] in BUILTINS:
        return Command(("bash", "-c", text), needs_shell=True)
    return Command(tuple(words))


def _has_shell_syntax(text: str) -> bool:
    """Quoted text is plain, unless double quotes hold something that bash expands there."""
    unquoted = re.sub(r"'[^']*'|\"[^\"$`\\!]*\"", "", text)
    return bool(re.search(r"[$`|&;<>()*?\[\]{}~!\\\n\"]|(^|\s)#", unquoted))
