"""COPY and ADD."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.flags import FlagKind, read_flags
from hakobune.dockerfile.heredoc import is_heredoc, read_heredoc
from hakobune.dockerfile.instructions import Add, Copy, Heredoc
from hakobune.dockerfile.lines import LogicalLine
from hakobune.dockerfile.words import read_json_words, split_blanks

_COMMON = {
    "chown": FlagKind.TEXT,
    "chmod": FlagKind.TEXT,
    "link": FlagKind.BOOL,
    "exclude": FlagKind.TEXTS,
}
_COPY_FLAGS = {**_COMMON, "from": FlagKind.TEXT, "parents": FlagKind.BOOL}
_ADD_FLAGS = {
    **_COMMON,
    "checksum": FlagKind.TEXT,
    "keep-git-dir": FlagKind.BOOL,
    "unpack": FlagKind.BOOL,
}


class _Paths(Struct, frozen=True):
    sources: tuple[str, ...]
    files: tuple[Heredoc, ...]
    destination: str


def read_copy(line: LogicalLine, escape: str) -> Copy:
    flags = read_flags(line.split.flags, _COPY_FLAGS, "COPY")
    paths = _read_paths(line, "COPY")
    from_ = flags.text("from")
    if from_ and "$" in from_[:-1]:
        raise TextError(
            "COPY --from cannot hold a variable",
            near=from_,
            fix="give the image a stage of its own (FROM $IMAGE AS name), and copy from that",
        )
    return Copy(
        at=line.at,
        text=line.text,
        sources=paths.sources,
        files=paths.files,
        destination=paths.destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.bools.get("link", False),
        exclude=flags.texts("exclude"),
        from_=from_,
        parents=flags.bools.get("parents", False),
    )


def read_add(line: LogicalLine, escape: str) -> Add:
    flags = read_flags(line.split.flags, _ADD_FLAGS, "ADD")
    paths = _read_paths(line, "ADD")
    return Add(
        at=line.at,
        text=line.text,
        sources=paths.sources,
        files=paths.files,
        destination=paths.destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.bools.get("link", False),
        exclude=flags.texts("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.bools.get("keep-git-dir"),
        unpack=flags.bools.get("unpack"),
    )


def _read_paths(line: LogicalLine, keyword: str) -> _Paths:
    json_words = read_json_words(line.split.rest)
    words = split_blanks(line.split.rest) if json_words is None else json_words
    if len(words) < 2:
        raise TextError(
            f"{keyword} needs at least one source and a destination",
            near=line.split.rest,
            fix=f"write {keyword} {words[0] if words else 'SOURCE'} /DESTINATION",
        )
    *sources, destination = words
    if is_heredoc(destination):
        raise TextError(
            f"{keyword} cannot have a heredoc as its destination",
            near=destination,
            fix=f"write {keyword} {destination} /DESTINATION",
        )
    bodies = {heredoc.name: heredoc.content for heredoc in line.heredocs}
    paths: list[str] = []
    files: list[Heredoc] = []
    for source in sources:
        heredoc = read_heredoc(source) if is_heredoc(source) else None
        if heredoc is None:
            paths.append(source)
        else:
            files.append(replace(heredoc, content=bodies.get(heredoc.name, "")))
    return _Paths(tuple(paths), tuple(files), destination)
