"""`.dockerignore`: what of the build context does not exist for a build (Docker's build context reference ".dockerignore files")."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct, field

from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.patterns import Pattern, PatternSet

NAME = ".dockerignore"
_NOTHING = PatternSet(())


class IgnoreFile(Struct, frozen=True):
    """A parsed ignore file; without one nothing is ignored.

    Attributes:
        file: as messages show it; empty if there is none.
        patterns: its lines, later ones win.
    """

    file: str = ""
    patterns: PatternSet = field(default=_NOTHING)

    @property
    def may_return(self) -> bool:
        """Whether something below an ignored folder may be taken in again."""
        return self.patterns.has_exceptions

    def ignores(self, path: str) -> bool:
        """Whether a path of the context (relative, no leading slash) is left out."""
        return self.patterns.matches(path)

    def reason(self, path: str) -> str:
        """`.dockerignore:3 (*.log)` if that line leaves the path out, else nothing."""
        pattern = self.patterns.deciding(path)
        return f"{self.file}:{pattern.line} ({pattern.text})" if pattern else ""

    def left_out(self, path: str) -> str:
        """`reason`, if it is sure that nothing below the path is taken in again."""
        return "" if self.may_return else self.reason(path)

    @classmethod
    def parse(cls, text: str, file: str) -> IgnoreFile:
        """Read an ignore file's text.

        Raises:
            DockerfileError: a pattern that cannot be understood.
        """
        patterns: list[Pattern] = []
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
            if line.startswith("#"):
                continue
            try:
                pattern = Pattern.parse(line, number)
            except TextError as error:
                raise DockerfileError(
                    error.problem, file=file, line=number, fix=error.fix
                ) from error
            if pattern is not None:
                patterns.append(pattern)
        return cls(file, PatternSet(patterns))


def find_ignore_file(context: Path, dockerfile: Path | None) -> Path | None:
    """`NAME.dockerignore` beside the Dockerfile if there is one, else `.dockerignore` at the top of the context."""
    candidates = [context / NAME]
    if dockerfile is not None:
        candidates.insert(0, dockerfile.with_name(dockerfile.name + NAME))
    return next((path for path in candidates if path.is_file()), None)


def read_ignore_file(context: Path, dockerfile: Path | None) -> IgnoreFile:
    """The ignore rules of a build.

    Raises:
        DockerfileError: a pattern that cannot be understood, or a file that is not UTF-8.
        OSError: it cannot be read.
    """
    path = find_ignore_file(context, dockerfile)
    if path is None:
        return IgnoreFile()
    data = path.read_bytes()
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise DockerfileError(
            "it is not UTF-8 text",
            file=path.name,
            line=data.count(b"\n", 0, error.start) + 1,
            fix="save it as UTF-8",
        ) from error
    return IgnoreFile.parse(text, path.name)
