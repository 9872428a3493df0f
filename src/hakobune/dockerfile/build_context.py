"""The build context: a folder, a git repository, a URL, or what comes on stdin (Docker's build context reference).

Whatever it is, it becomes a folder and a Dockerfile. In a context from elsewhere no link leads out of it, neither for COPY
nor for the Dockerfile itself, and nothing in it is ignored.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO, assert_never

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.git_source import GitSource, is_git, read_git_source
from hakobune.dockerfile.ignore_file import IgnoreFile, read_ignore_file
from hakobune.dockerfile.parse import decode
from hakobune.dockerfile.remote_url import shown
from hakobune.errors import HakoError, UsageError

_DOCKERFILE = "Dockerfile"
# What docker calls the file when a URL gives nothing else.
_ONLY_FILE = "context"
_HEAD = 1024
KEEP_GIT_DIR = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"


class BuildContext(Struct, frozen=True, kw_only=True):
    """Where a build reads.

    Attributes:
        dockerfile: its path, or only its name if `text` is what it says.
        ignore: what of the folder does not exist; `None`: what its ignore file says.
    """

    folder: Path
    dockerfile: Path
    text: str | None = None
    ignore: IgnoreFile | None = None


class Kind(Enum):
    """What a context may be."""

    FOLDER = auto()
    STDIN = auto()
    GIT = auto()
    URL = auto()


def kind_of(where: str, *, is_folder: bool) -> Kind:
    """What *where* names, decided as docker does: a folder that is there is a folder.

    Raises:
        UsageError: it is none of them.
    """
    if not where:
        raise UsageError("the build context is empty", fix="write . for the folder that you are in")
    if where == "-":
        return Kind.STDIN
    if is_folder:
        return Kind.FOLDER
    if is_git(where) or where.startswith("github.com/"):
        return Kind.GIT
    scheme, separator, rest = where.partition("://")
    if not separator:
        raise UsageError(
            f"{where} is no folder",
            fix="name the folder that COPY and ADD read, a git repository, a URL, or - for stdin",
        )
    if scheme.lower() not in ("http", "https") or not rest.strip("/"):
        raise UsageError(
            f"the build context {where} cannot be fetched",
            why="it has no host" if scheme.lower() in ("http", "https") else f"{scheme}:// is not understood",
            fix="https://HOST/REPOSITORY.git#REF:FOLDER, git@HOST:REPOSITORY, or the URL of a tar archive or a Dockerfile",
        )  # fmt: skip
    return Kind.URL


def git_source(where: str, args: Mapping[str, str]) -> GitSource:
    """The repository that a context names; the build argument BUILDKIT_CONTEXT_KEEP_GIT_DIR keeps its `.git`.

    Raises:
        UsageError: options that are unknown or contradict each other.
    """
    try:
        source = read_git_source(f"https://{where}" if where.startswith("github.com/") else where)
    except TextError as error:
        raise UsageError(
            f"the build context {shown(where)} cannot be understood",
            why=error.problem,
            fix=error.fix,
        ) from error
    keep = args.get(KEEP_GIT_DIR, "").lower() in ("1", "t", "true")
    return replace(source, keep_git_dir=True) if keep else source


@contextmanager
def open_build_context(
    where: str,
    file: str | None,
    *,
    home: Path,
    stdin: BinaryIO,
    env: Mapping[str, str],
    args: Mapping[str, str],
    tell: Callable[[str], None],
) -> Iterator[BuildContext]:
    """The context *where*, while the block lasts.

    Args:
        file: the Dockerfile: a path, in a context from elsewhere relative to it; a URL; `-` for stdin; `None`: the context's own.
        home: HAKO_HOME.
        env: for git.
        args: of the build.
        tell: what is fetched, for the person who waits.

    Raises:
        HakoError: it cannot be had, or has no such Dockerfile.
    """
    file = file or None
    kind = kind_of(where, is_folder=os.path.isdir(where))
    if kind is Kind.STDIN and file == "-":
        raise UsageError(
            "stdin cannot be both the build context and the Dockerfile",
            fix="give the folder by name, or the Dockerfile with -f FILE",
        )
    _forget_left(home)
    given = _given_text(file, home, stdin)
    with ExitStack() as undo:
        match kind:
            case Kind.FOLDER:
                yield _local(Path(where).absolute(), file, given)
            case Kind.GIT:
                tell(f"context {shown(where)}")
                folder = undo.enter_context(_checked_out(where, home, env, args))
                yield _elsewhere(folder, file, given, where)
            case Kind.URL:
                from hakobune.dockerfile.add_url import download

                tell(f"context {shown(where)}")
                done = download(where, home / "dockerfile" / "downloads")
                data = undo.enter_context(done.path.open("rb"))
                yield _from_stream(data, where, file, given, home, undo)
            case Kind.STDIN:
                yield _from_stream(stdin, where, file, given, home, undo)
            case _:
                assert_never(kind)


def _forget_left(home: Path) -> None:
    """What killed builds have left goes with the next build, whatever its context is."""
    try:
        left = os.listdir(home / "dockerfile" / "contexts")
    except FileNotFoundError:
        return
    if left:
        from hakobune.dockerfile.context_archive import forget_contexts

        forget_contexts(home)


def _given_text(file: str | None, home: Path, stdin: BinaryIO) -> str | None:
    """The text of a Dockerfile that lies in no folder."""
    if file == "-":
        text = decode(stdin.read(), _DOCKERFILE)
        if not text:
            raise UsageError(
                "there is no Dockerfile on stdin",
                why="it is empty",
                fix="hako dockerfile build -f - DIR <FILE",
            )
        return text
    if file is not None and file.startswith(("http://", "https://")):
        from hakobune.dockerfile.add_url import download

        return decode(download(file, home / "dockerfile" / "downloads").path.read_bytes(), file)
    return None


def _local(folder: Path, file: str | None, given: str | None) -> BuildContext:
    if given is not None:
        return BuildContext(
            folder=folder,
            dockerfile=folder / _DOCKERFILE,
            text=given,
            ignore=read_ignore_file(folder, None),
        )
    if file is not None:
        return BuildContext(folder=folder, dockerfile=Path(file))
    path = folder / _DOCKERFILE
    lower = folder / _DOCKERFILE.lower()
    return BuildContext(
        folder=folder, dockerfile=lower if not path.exists() and lower.exists() else path
    )


@contextmanager
def _checked_out(
    where: str, home: Path, env: Mapping[str, str], args: Mapping[str, str]
) -> Iterator[Path]:
    """The folder of a repository that is meant."""
    from hakobune.dockerfile.add_git import checked_out

    source = git_source(where, args)
    with checked_out(source, home / "dockerfile" / "git", env) as done:
        folder = done.folder / _resolve(done.folder, source.folder)
        if not folder.is_dir():
            raise HakoError(
                f"the build context {shown(where)} cannot be read",
                why=f"the repository has no folder {source.folder}",
                fix="REPOSITORY#REF:FOLDER",
            )
        yield folder


def _from_stream(
    stream: BinaryIO, where: str, file: str | None, given: str | None, home: Path, undo: ExitStack
) -> BuildContext:
    """An archive, unpacked; or a Dockerfile that is alone."""
    from hakobune.dockerfile.context_archive import Rest, is_archive, new_folder, unpack

    head = stream.read(_HEAD)
    rest = Rest(head, stream)
    if is_archive(head):
        folder = undo.enter_context(new_folder(home))
        unpack(rest, folder, _named(where))
        return _elsewhere(folder, file, given, where)
    if not head:
        raise UsageError(
            f"there is nothing {'on stdin' if where == '-' else f'at {shown(where)}'}",
            fix="tar -c . | hako dockerfile build -, or hako dockerfile build - <Dockerfile"
            if where == "-"
            else "name a tar archive or a Dockerfile",
        )
    if where == "-" and file is not None:
        raise UsageError(
            f"-f {file} and stdin are both the Dockerfile",
            why="what comes on stdin is no tar archive",
            fix="leave out -f, or send an archive: tar -c . | hako dockerfile build -f FILE -",
        )
    return _alone(rest.read(), where, given, undo.enter_context(new_folder(home)))


def _alone(data: bytes, where: str, given: str | None, folder: Path) -> BuildContext:
    """A context without files, or with the one that the URL gives."""
    if where != "-":
        (folder / _ONLY_FILE).write_bytes(data)
        (folder / _ONLY_FILE).chmod(0o600)
        _refuse_page(data, where)
    text = decode(data, _DOCKERFILE) if given is None else given
    return BuildContext(folder=folder, dockerfile=Path(_DOCKERFILE), text=text, ignore=IgnoreFile())


def _refuse_page(data: bytes, where: str) -> None:
    if data.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise HakoError(
            f"{shown(where)} is no build context",
            why="it is a web page, and neither a tar archive nor a Dockerfile",
            fix=f"if it is a git repository: {shown(where).rstrip('/')}.git",
        )


def _elsewhere(folder: Path, file: str | None, given: str | None, where: str) -> BuildContext:
    """A folder whose links are not trusted; BuildKit reads no ignore file there either."""
    if given is not None:
        return BuildContext(
            folder=folder, dockerfile=Path(_DOCKERFILE), text=given, ignore=IgnoreFile()
        )
    if file is not None and os.path.isabs(file):
        return BuildContext(folder=folder, dockerfile=Path(file), ignore=IgnoreFile())
    names = (file,) if file is not None else (_DOCKERFILE, _DOCKERFILE.lower())
    for name in names:
        if (data := _read_inside(folder, name)) is not None:
            return BuildContext(
                folder=folder, dockerfile=Path(name), text=decode(data, name), ignore=IgnoreFile()
            )
    named = _named(where)
    hint = ", or its folder: REPOSITORY#REF:FOLDER" if is_git(where) else ""
    raise HakoError(
        f"there is no {names[0]} in {named}",
        why="it has " + _some_names(folder),
        fix=f"name the Dockerfile with -f{hint}",
    )


def _read_inside(folder: Path, path: str) -> bytes | None:
    """A file of the folder, links followed as if it were the root; `None` if there is no such file."""
    try:
        descriptor = os.open(
            folder / _resolve(folder, path),
            os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK,
        )
    except OSError:
        return None
    with open(descriptor, "rb", closefd=False) as file:
        try:
            return file.read() if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
        finally:
            os.close(descriptor)


def _resolve(folder: Path, path: str) -> str:
    from hakobune.dockerfile.copy_into import resolve_inside

    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return resolve_inside(root, path)
    finally:
        os.close(root)


def _some_names(folder: Path) -> str:
    names = sorted(os.listdir(folder))
    return (", ".join(names[:5]) + (" …" if len(names) > 5 else "")) if names else "no files"


def _named(where: str) -> str:
    return "what came on stdin" if where == "-" else shown(where)
