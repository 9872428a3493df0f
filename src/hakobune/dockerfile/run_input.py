"""What RUN starts: argv, and the file that a heredoc with a `#!` line becomes (Dockerfile reference "Here-Documents")."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from hakobune.dockerfile.heredoc import is_heredoc
from hakobune.dockerfile.instructions import CommandLine

SCRIPT_DIRECTORY = "/dev/pipes"


class RunInput(Struct, frozen=True):
    """How to carry a command out.

    Attributes:
        argv: what to start.
        script: text of the program that has to stand at argv's last word (mode 0755, read-only, in no layer); None: no such file.
    """

    argv: tuple[str, ...]
    script: str | None = None


def run_input(command: CommandLine, shell: Sequence[str]) -> RunInput:
    """Put SHELL in front of the shell form.

    A heredoc alone is the script itself: with a `#!` line the shell starts it as a program, else the shell gets its text. Any other
    line with heredocs is given to the shell whole, bodies included.
    """
    if not command.shell:
        return RunInput(command.words)
    line = command.words[0] if command.words else ""
    if not command.heredocs:
        return RunInput((*shell, line))
    first = command.heredocs[0]
    if is_heredoc(line):
        if first.text.startswith("#!"):
            return RunInput((*shell, f"{SCRIPT_DIRECTORY}/{first.name}"), first.text)
        return RunInput((*shell, first.text))
    bodies = (f"\n{heredoc.content}{heredoc.name}" for heredoc in command.heredocs)
    return RunInput((*shell, "".join([line, *bodies])))
