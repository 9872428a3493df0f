"""What is wrong in a Dockerfile, and where."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from hakobune.errors import HakoError

if TYPE_CHECKING:
    from hakobune.dockerfile.instructions import Position


class DockerfileError(HakoError):
    """A Dockerfile (or ignore file) that cannot be understood or carried out.

    Attributes:
        file: as messages show it.
        line: from 1; 0 if the file as a whole is meant.
        column: from 1; 0 if the whole line is meant.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str,
        line: int = 0,
        column: int = 0,
        why: str = "",
        fix: str = "",
    ) -> None:
        place = ":".join([file, *(str(number) for number in (line, column) if number)])
        super().__init__(f"{place}: {problem}", why=why, fix=fix)
        self.problem = problem
        self.file = file
        self.line = line
        self.column = column

    @classmethod
    def at(cls, place: Position, error: HakoError, problem: str = "") -> DockerfileError:
        """What went wrong elsewhere because of the line at *place*; *problem* says it better than the error's own words."""
        return cls(
            problem or error.what, file=place.file, line=place.line, why=error.why, fix=error.fix
        )


class TextError(Exception):
    """Something wrong in a piece of text; whoever knows the place turns it into a `DockerfileError`.

    Attributes:
        near: the piece of the source that is meant, to find its column; may be empty.
        fix: what to write instead; may be empty.
    """

    def __init__(self, problem: str, *, near: str = "", fix: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.near = near
        self.fix = fix


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean RUN?`, or nothing if no known word is near."""
    from difflib import get_close_matches  # only needed when something is wrong

    by_fold = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), by_fold, n=1, cutoff=0.6)
    return f"did you mean {by_fold[near[0]]}?" if near else ""
