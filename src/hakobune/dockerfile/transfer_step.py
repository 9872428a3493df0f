"""COPY and ADD: files from the context, a stage, an image, a heredoc, an archive or a URL become a layer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from posixpath import dirname

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.cache import Inputs
from hakobune.dockerfile.chown import has_names, resolve_owner
from hakobune.dockerfile.copy_into import (
    Copier,
    CopyError,
    Owner,
    Source,
    clean_destination,
)
from hakobune.dockerfile.errors import DockerfileError, TextError, did_you_mean
from hakobune.dockerfile.file_mode import FileMode
from hakobune.dockerfile.git_source import is_git
from hakobune.dockerfile.image_config import transfer_created_by, working_dir
from hakobune.dockerfile.instructions import Add, Copy, Heredoc
from hakobune.dockerfile.linked_files import LinkedFiles
from hakobune.dockerfile.patterns import PatternSet, has_wildcards
from hakobune.dockerfile.report import StepReport
from hakobune.dockerfile.source_tree import SourceMissingError, SourceTree
from hakobune.dockerfile.stage_state import StageState
from hakobune.dockerfile.step import Step
from hakobune.dockerfile.step_layers import StepLayer, Top
from hakobune.dockerfile.substitute import is_url
from hakobune.dockerfile.workshop import Workshop, hold

Transfer = Copy | Add


class _Picked(Struct, frozen=True):
    """The sources of one word of the instruction, in the tree that they come from."""

    tree: SourceTree
    sources: tuple[Source, ...]
    may_unpack: bool = False


def transfer_step(
    workshop: Workshop, stage: StageState, instruction: Transfer, banner: str
) -> Step:
    """The step of a COPY or ADD whose variables have been replaced."""
    destination = _destination(stage, instruction)

    def make(top: Top, below: Sequence[StepLayer], report: StepReport) -> None:
        _transfer(workshop, stage, instruction, destination, top, below)

    from_ = instruction.from_ if isinstance(instruction, Copy) else ""
    owner: dict[str, object] = {}
    if _is_alone(instruction) and has_names(
        instruction.chown
    ):  # the layers below are not in its key
        known = _owner(workshop, stage, instruction) or Owner(0, 0)
        owner = {"owner": [known.uid, known.gid]}

    def by_layers() -> Inputs | None:
        found = _inputs_by_layers(workshop, instruction, destination, from_)
        return None if found is None else {**found, **owner}

    cheap = (by_layers,) if from_ else ()
    return Step(
        at=instruction.at,
        inputs=(*cheap, lambda: {**_inputs(workshop, instruction, destination), **owner}),
        created_by=transfer_created_by(instruction),
        banner=banner,
        alone=_is_alone(instruction),
        settled=bool(from_),
        make=make,
    )


def _is_alone(instruction: Transfer) -> bool:
    """Whether the layer does not depend on those below (BuildKit's rule)."""
    return instruction.link and not instruction.chmod


def _destination(stage: StageState, instruction: Transfer) -> str:
    """Absolute, with a slash at its end if it must be a folder."""
    path = instruction.destination
    absolute = working_dir(stage.config, path)
    return clean_destination(absolute + ("/" if path.endswith(("/", "/.")) or path == "." else ""))


def _described(instruction: Transfer, destination: str) -> dict[str, object]:
    described: dict[str, object] = {
        "copy": instruction.keyword,
        "sources": list(instruction.sources),
        "files": [[file.name, file.content] for file in instruction.files],
        "destination": destination,
        "chown": instruction.chown,
        "chmod": instruction.chmod,
        "link": instruction.link,
        "exclude": list(instruction.exclude),
    }
    if isinstance(instruction, Copy):
        described["parents"] = instruction.parents
    else:
        described["unpack"] = instruction.unpack
        described["checksum"] = instruction.checksum
    return described


def _inputs_by_layers(
    workshop: Workshop, instruction: Transfer, destination: str, from_: str
) -> Inputs | None:
    """Without a look at the files: the stage is the one that it was."""
    diff_ids = workshop.find_source(from_).diff_ids()
    if diff_ids is None:
        return None
    layers = [str(diff_id) for diff_id in diff_ids]
    return {**_described(instruction, destination), "layers": layers}


def _inputs(workshop: Workshop, instruction: Transfer, destination: str) -> Inputs:
    with ExitStack() as undo:
        picked = undo.enter_context(_open_sources(workshop, instruction, undo))
        content = [item.tree.digest(item.sources) for item in picked]
    return {**_described(instruction, destination), "content": content}


@contextmanager
def _open_sources(
    workshop: Workshop,
    instruction: Transfer,
    undo: ExitStack,
    apart_from: Sequence[StepLayer] | None = None,
) -> Iterator[tuple[_Picked, ...]]:
    """What the instruction's words name; for *apart_from* see `Workshop.open_tree`.

    Raises:
        DockerfileError: a source is not there.
    """
    from_ = instruction.from_ if isinstance(instruction, Copy) else ""
    tree = workshop.context
    if from_:
        tree = undo.enter_context(workshop.open_tree(from_, apart_from=apart_from))
    picked = []
    for word in instruction.sources:
        if isinstance(instruction, Add) and is_git(word):
            picked.append(_clone(workshop, instruction, word, undo))
            continue
        if isinstance(instruction, Add) and is_url(word):
            picked.append(_download(workshop, instruction, word, undo))
            continue
        unpack = isinstance(instruction, Add) and instruction.unpack is not False
        picked.append(_Picked(tree, _select(tree, instruction, word, from_), unpack))
    if instruction.files:
        picked.append(_write_heredocs(instruction.files, undo))
    yield tuple(picked)


def _unpack(source: Source, copier: Copier, owner: Owner | None, destination: str) -> bool:
    """Unpack the source if it is an archive."""
    if source.is_directory:
        return False
    from hakobune.dockerfile.add_archive import open_archive, unpack_archive

    for entry in source.entries:
        with open_archive(entry) as tar:
            if tar is None:
                return False
            unpack_archive(tar, copier, destination, owner=owner)
    return True


def _download(workshop: Workshop, instruction: Add, url: str, undo: ExitStack) -> _Picked:
    from hakobune.dockerfile.add_url import DownloadError, download

    folder = workshop.store.home / "dockerfile" / "downloads"
    try:
        file = workshop.downloaded.get(url) or download(url, folder, checksum=instruction.checksum)
        workshop.downloaded[url] = file
    except DownloadError as error:
        raise DockerfileError.at(instruction.at, error) from error
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    undo.callback(os.close, root)
    tree = SourceTree(root)
    found = tree.select_path(file.path.name)
    return _Picked(tree, (replace(found, name=file.name),), bool(instruction.unpack))


def _clone(workshop: Workshop, instruction: Add, word: str, undo: ExitStack) -> _Picked:
    from hakobune.dockerfile.add_git import GitError, checked_out
    from hakobune.dockerfile.git_source import read_git_source, with_flags

    at = instruction.at
    source = with_flags(read_git_source(word), instruction.checksum, instruction.keep_git_dir)
    folder = workshop.store.home / "dockerfile" / "git"
    try:
        done = undo.enter_context(checked_out(source, folder, workshop.request.env))
    except GitError as error:
        raise DockerfileError.at(at, error) from error
    root = os.open(done.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    undo.callback(os.close, root)
    return _Picked(tree := SourceTree(root), _select(tree, instruction, source.folder or "/", word))


def _select(tree: SourceTree, instruction: Transfer, word: str, from_: str) -> tuple[Source, ...]:
    try:
        exclude = (
            PatternSet.parse(instruction.exclude, rooted=False).matches
            if instruction.exclude
            else None
        )
        if isinstance(instruction, Copy) and instruction.parents:
            pivot, found, pattern = word.partition("/./")
            if not found:
                pivot, pattern = "/", word
            if not has_wildcards(pattern):
                tree.require(f"{pivot}/{pattern}")
            included = PatternSet.parse((pattern.lstrip("/"),)).matches
            return (tree.select_with_parents(pivot, included, exclude=exclude),)
        return tree.select(word, exclude=exclude)
    except TextError as error:
        at = instruction.at
        raise DockerfileError(error.problem, file=at.file, line=at.line, fix=error.fix) from error
    except CopyError as error:  # links that go round in circles
        raise DockerfileError.at(instruction.at, error) from error
    except SourceMissingError as error:
        # What a glob finds is there, unless it is a link that leads nowhere.
        named = error.path if has_wildcards(word) else word
        why, fix = _why_missing(tree, named, from_)
        raise DockerfileError(
            f"{instruction.keyword} {word}: {error.what}",
            file=instruction.at.file,
            line=instruction.at.line,
            why=why,
            fix=fix,
        ) from error


def _why_missing(tree: SourceTree, word: str, from_: str) -> tuple[str, str]:
    """Why a source is not there, and what to write instead."""
    path = clean_destination(word).strip("/")
    if reason := tree.reason(path):
        return f"{reason} leaves it out", f"write !{path} below that line"
    if (target := tree.link_at(path)) is not None:
        return (
            f"it is a symbolic link to {target}, and {_place_of(from_)} has no such file",
            "copy the file itself" if from_ else "put the file itself into the build context",
        )
    if not from_ and (word == ".." or word.startswith("../")):
        return (
            "the build context ends at its own folder: .. leads to itself there",
            "build from a folder that has it (-f names the Dockerfile), or lend it: --build-context NAME=..",
        )
    if word.startswith("-"):
        return (
            f"{word} is taken for a file",
            "flags are written --name=value; folders are copied with all that is in them, without any",
        )
    near = did_you_mean(word, tree.neighbours(word))
    if not from_ and word.startswith("/") and not near:
        near = "paths are those of the build context, not of this machine"
    return f"{_place_of(from_)} has no such file", near


def _place_of(from_: str) -> str:
    """What a `from` names, for messages."""
    return f"the stage or image {from_!r}" if from_ else "the build context"


def _write_heredocs(files: Sequence[Heredoc], undo: ExitStack) -> _Picked:
    from hakobune.runtime import mount

    root = mount.new_filesystem("tmpfs", [("mode", "755")])
    undo.callback(os.close, root)
    copier = Copier(root)
    for file in files:
        copier.make_directories(copier.resolve(dirname(file.name)))
        descriptor = os.open(file.name.lstrip("/"), os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=root)
        with open(descriptor, "wb") as out:
            os.fchmod(descriptor, 0o644)
            out.write(file.content.encode("utf-8", "surrogateescape"))
    tree = SourceTree(root)
    return _Picked(tree, tuple(tree.select_path(file.name) for file in files))


def _transfer(
    workshop: Workshop,
    stage: StageState,
    instruction: Transfer,
    destination: str,
    top: Top,
    below: Sequence[StepLayer],
) -> None:
    from hakobune.runtime import mount
    from hakobune.runtime.mount import RootFs

    with ExitStack() as undo:
        # With a time given, what is younger gets it, and other layers must not; and what lies under a layer that is found
        # by itself is not known: nothing is shared then.
        shares = workshop.request.epoch is None and not _is_alone(instruction)
        apart_from = below if shares else None
        picked = undo.enter_context(_open_sources(workshop, instruction, undo, apart_from))
        owner = _owner(workshop, stage, instruction)
        with workshop.layers.lowers(below) as lowers:
            root = mount.overlay(RootFs(lowers=lowers, top=top.folder), None)
            undo.callback(os.close, root)
        # A base image is not looked through: it has thousands of files, and hardly ever one of this build's stages.
        with workshop.layers.lowers([layer for layer in below if layer.created]) as made:
            linked = LinkedFiles([hold(path, undo) for path in made])
        from_stage = isinstance(instruction, Copy) and bool(instruction.from_)
        mode = FileMode.parse(instruction.chmod) if instruction.chmod else None
        copier = Copier(
            root,
            owner=owner or (None if from_stage else Owner(0, 0)),
            upper=str(top.up),
            has_file=linked.has,
            mode=(lambda bits, folder: mode.apply(bits, is_directory=folder)) if mode else None,
            directory_mode=mode.octal & 0o777 if mode and mode.octal is not None else 0o755,
            attributes=from_stage,
            now_ns=None if workshop.request.epoch is None else workshop.request.epoch * 10**9,
        )
        try:
            for item in picked:
                for source in item.sources:
                    if not (item.may_unpack and _unpack(source, copier, owner, destination)):
                        copier.copy(source, destination)
        except CopyError as error:
            raise DockerfileError.at(
                instruction.at, error, f"{instruction.text}: {error.what}"
            ) from error


def _owner(workshop: Workshop, stage: StageState, instruction: Transfer) -> Owner | None:
    """Who `--chown` means, by the image's own users; `None` if it is not given.

    Raises:
        DockerfileError: the image has no such user or group.
    """
    if not instruction.chown:
        return None
    return resolve_owner(workshop, stage, instruction.chown, instruction.at)
