"""The folder that is built from, as people are told of it."""

from __future__ import annotations

import stat
from pathlib import Path

from hakobune.cli.main import Context
from hakobune.cli.terminal import human_size

_SERVER_LANGUAGES = (".py", ".js", ".mjs", ".cjs", ".ts")
_SERVER_FILES = 300
_FILE_LIMIT = 256 << 10


def describe_source(folder: Path) -> str:
    """One phrase: `~/src/shop, 41 files, 212 KB (.gitignore leaves out 3)`.

    Raises:
        HakoError: there is no such folder, or it cannot be read.
    """
    from hakobune.builds.source import open_source
    from hakobune.builds.source_listing import list_source

    source = open_source(folder)
    listing = list_source(source)
    size = human_size(sum(status.st_size for _, status in listing.files))
    count = count_of(len(listing.files), "file")
    left_out = len(listing.left_out)
    note = f" ({source.rules.origin} leaves out {left_out})" if left_out else ""
    return f"{with_tilde(source.root)}, {count}, {size}{note}"


def print_source(folder: Path, descriptor: Path | None, context: Context) -> None:
    """Print the paths that a build would take, one a line, and to the error stream what is left out."""
    from hakobune.builds.source import open_source
    from hakobune.builds.source_listing import list_source

    source = open_source(folder, descriptor)
    listing = list_source(source)
    for path, status in listing.entries:
        if not stat.S_ISDIR(status.st_mode):
            print(path, file=context.out)
    print(f"{len(listing.left_out)} left out by {source.rules.origin}", file=context.err)
    for note in listing.notes:
        print(f"Warning: {note}", file=context.err)


def list_paths(folder: Path) -> tuple[str, ...]:
    """The files that a build of *folder* would take, relative to it."""
    from hakobune.builds.source import open_source
    from hakobune.builds.source_listing import list_source

    return tuple(path for path, _ in list_source(open_source(folder)).files)


def read_sources(folder: Path) -> dict[str, str]:
    """The text of the source files in which a server may be started, by path; not more than a few hundred."""
    paths = [p for p in list_paths(folder) if p.endswith(_SERVER_LANGUAGES)]
    texts = {}
    for path in paths[:_SERVER_FILES]:
        try:
            with open(folder / path, encoding="utf-8", errors="replace") as file:
                texts[path] = file.read(_FILE_LIMIT)
        except OSError:
            continue
    return texts


def count_of(number: int, noun: str) -> str:
    """`1 file`, `12 files`."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def with_tilde(path: Path) -> str:
    """A path as people write it: `~/src/shop`."""
    home = Path.home()
    return (
        f"~/{path.relative_to(home)}" if path != home and path.is_relative_to(home) else str(path)
    )
