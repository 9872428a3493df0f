"""From the text of a Dockerfile to its logical lines: comments, continuations, heredoc bodies, positions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.directives import DirectiveReader
from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.heredoc import heredocs_in
from hakobune.dockerfile.instructions import Heredoc, Position
from hakobune.dockerfile.words import Split, read_json_words, split_line

_HEREDOC_KEYWORDS = frozenset({"ADD", "COPY", "RUN"})
_BYTE_ORDER_MARK = "\ufeff"


class LogicalLine(Struct, frozen=True, kw_only=True):
    """One instruction as text: continuations joined, comments dropped.

    Attributes:
        text: without blanks around it; heredoc bodies are in `heredocs`.
        split: the same, taken apart.
        empty_line: number of the first empty line within (legal, but it will not stay so); 0 for none.
        comments: what stands in comments between it and the instruction before, with their lines.
    """

    at: Position
    text: str
    split: Split
    heredocs: tuple[Heredoc, ...]
    empty_line: int = 0
    comments: tuple[tuple[int, str], ...] = ()


class LineReader:
    """Reads the physical lines of one file.

    Attributes:
        directives: what stood at the top; complete once the first line has been given out.
    """

    def __init__(self, text: str, file: str) -> None:
        self.directives = DirectiveReader()
        self._file = file
        self._lines = text.removeprefix(_BYTE_ORDER_MARK).split("\n")
        if self._lines[-1] == "":
            self._lines.pop()
        self._next = 0

    def __iter__(self) -> Iterator[LogicalLine]:
        """The instructions, in order.

        Raises:
            DockerfileError: a bad directive, or a heredoc without its end.
        """
        comments: list[tuple[int, str]] = []
        while self._next < len(self._lines):
            start = self._next
            line = self._take().lstrip()
            is_directive = self._look_for_directive(line)
            if line.startswith("#"):
                if not is_directive:
                    comments.append((self._next, line[1:].strip()))
                continue
            first, is_continued = self._without_continuation(line)
            if not first and not is_continued:
                continue
            rest, empty_line = self._read_continuation() if is_continued else ("", 0)
            finished = self._finish((first + rest).strip(), start, empty_line)
            yield replace(finished, comments=tuple(comments)) if comments else finished
            comments.clear()

    def _take(self) -> str:
        line = self._lines[self._next].rstrip("\r")
        self._next += 1
        return line

    def _look_for_directive(self, line: str) -> bool:
        try:
            return self.directives.take(line)
        except TextError as error:
            raise DockerfileError(
                error.problem, file=self._file, line=self._next, fix=error.fix
            ) from error

    def _without_continuation(self, line: str) -> tuple[str, bool]:
        """The line without its escape at the end, and whether there was one; a doubled escape is none."""
        pattern = rf"(^|[^{re.escape(self.directives.escape)}]){re.escape(self.directives.escape)}[ \t]*\Z"
        match = re.search(pattern, line)
        return (line[: match.end(1)], True) if match else (line, False)

    def _read_continuation(self) -> tuple[str, int]:
        """What follows up to the first line that does not go on; comments and empty lines do not end it."""
        parts: list[str] = []
        empty_line = 0
        is_continued = True
        while is_continued and self._next < len(self._lines):
            line = self._take()
            if line.lstrip().startswith("#"):
                continue
            if not line.strip():
                empty_line = empty_line or self._next
                continue
            part, is_continued = self._without_continuation(line)
            parts.append(part)
        return "".join(parts), empty_line

    def _finish(self, text: str, start: int, empty_line: int) -> LogicalLine:
        split = split_line(text, self.directives.escape)
        at = Position(self._file, start + 1, self._next)
        try:
            opened = heredocs_in(text) if "<<" in text and self._may_have_heredocs(split) else ()
        except TextError as error:
            raise located(error, at, self._lines) from error
        heredocs = tuple(self._read_heredoc(heredoc, start) for heredoc in opened)
        return LogicalLine(
            at=Position(self._file, start + 1, self._next),
            text=text,
            split=split,
            heredocs=heredocs,
            empty_line=empty_line,
        )

    def _may_have_heredocs(self, split: Split) -> bool:
        if split.keyword.upper() == "ONBUILD":
            split = split_line(split.rest, self.directives.escape)
        if split.keyword.upper() not in _HEREDOC_KEYWORDS:
            return False
        try:
            return read_json_words(split.rest) is None
        except TextError:
            return False  # reported where the arguments are read

    def _read_heredoc(self, heredoc: Heredoc, start: int) -> Heredoc:
        body: list[str] = []
        while self._next < len(self._lines):
            is_last = self._next + 1 == len(self._lines)
            raw = self._lines[self._next]
            line = self._take()
            if (line.lstrip("\t") if heredoc.strip_tabs else line) == heredoc.name:
                return replace(heredoc, content="".join(body))
            body.append(raw if is_last else raw + "\n")
        raise DockerfileError(
            f"the heredoc <<{heredoc.name} has no end",
            file=self._file,
            line=start + 1,
            fix=f"write {heredoc.name} alone on a line after its text",
        )

    def locate(self, error: TextError, at: Position) -> DockerfileError:
        """The error with file, line and, if the text meant is found there, column."""
        return located(error, at, self._lines)


def located(error: TextError, at: Position, lines: list[str]) -> DockerfileError:
    """An error about a text, with the place in these physical lines where that text stands."""
    line, column = at.line, 0
    near = error.near.strip()
    if near:
        for number in range(at.line, at.end_line + 1):
            found = lines[number - 1].find(near) if number <= len(lines) else -1
            if found >= 0:
                line, column = number, found + 1
                break
    return DockerfileError(error.problem, file=at.file, line=line, column=column, fix=error.fix)
