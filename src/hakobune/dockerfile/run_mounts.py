"""`RUN --mount`: what a command sees that is no part of the image."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from posixpath import join, normpath

from msgspec import Struct, field

from hakobune.dockerfile.errors import DockerfileError, TextError
from hakobune.dockerfile.instructions import Mount, MountType, Position, Sharing
from hakobune.dockerfile.mount import mount_target
from hakobune.dockerfile.mount_sources import copy_from_context
from hakobune.dockerfile.ssh_agent import SOCKET, Agent, lent_agent
from hakobune.dockerfile.step_layers import Top
from hakobune.dockerfile.workshop import Workshop
from hakobune.runtime import mount as mounts
from hakobune.runtime.mount import RootFs
from hakobune.runtime.sandbox_plan import GivenFile, GivenMount
from hakobune.runtime.slot import Slot
from hakobune.support.locks import exclusive, is_still_there, open_lock

_SECRETS = "/run/secrets"
_AGENTS = "/run/buildkit/ssh_agent"


class Given(Struct, eq=False):
    """What a sandbox is given for one RUN.

    Attributes:
        env: over all other variables.
        usual_env: where nothing else says so.
    """

    mounts: list[GivenMount] = field(default_factory=list)
    files: list[GivenFile] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    usual_env: dict[str, str] = field(default_factory=dict)


def give_mounts(
    workshop: Workshop,
    mount_list: Sequence[Mount],
    *,
    top: Top,
    slot: Slot,
    cwd: str,
    at: Position,
    undo: ExitStack,
) -> Given:
    """Prepare the mounts of a RUN; *undo* takes them away.

    Args:
        top: of the step: what a mount needs on the disk goes beside it.

    Raises:
        DockerfileError: something is not there.
    """
    given = Given()
    agents = 0
    for number, item in enumerate(mount_list):
        target = _target(item, cwd, at)
        match item.type:
            case MountType.CACHE:
                fd = _cache(workshop, item, slot, undo, number)
                given.mounts.append(GivenMount(target=target, fd=fd, read_only=item.read_only))
            case MountType.BIND:
                fd = _bind(workshop, item, top, slot, undo, number, at)
                given.mounts.append(
                    GivenMount(target=target, fd=fd, source=item.source, read_only=item.read_only)
                )
            case MountType.TMPFS:
                fd = undo_close(undo, _tmpfs(item.size_bytes, slot))
                given.mounts.append(GivenMount(target=target, fd=fd))
            case MountType.SECRET:
                _give_secret(given, item, target, workshop.request.secrets, at)
            case MountType.SSH:
                where = target or f"{_AGENTS}.{agents}"
                agents += 1
                given.usual_env.setdefault("SSH_AUTH_SOCK", where)
                agent = workshop.request.ssh.get(item.id)
                if agent is not None:
                    fd = _lend_agent(agent, item, top.scratch / f"s{number}", slot, undo)
                    given.mounts.append(GivenMount(target=where, fd=fd, source=SOCKET))
                elif item.required:
                    raise _no_agent(item.id, at)
    return given


def _lend_agent(agent: Agent, item: Mount, folder: Path, slot: Slot, undo: ExitStack) -> int:
    undo.enter_context(
        lent_agent(
            agent,
            folder,
            owner=(slot.base + (item.uid or 0), slot.base + (item.gid or 0)),
            mode=0o600 if item.mode is None else item.mode,
        )
    )
    return undo_close(undo, mounts.clone_tree(folder))


def _no_agent(name: str, at: Position) -> DockerfileError:
    return DockerfileError(
        f"the ssh agent {name!r} is not given to this build",
        file=at.file,
        line=at.line,
        why="--mount=type=ssh,required asks for it",
        fix=f"hako dockerfile build --ssh {name} … lends the one of SSH_AUTH_SOCK, --ssh {name}=SOCKET another, --ssh {name}=KEYFILE one with that key",
    )


def _target(item: Mount, cwd: str, at: Position) -> str:
    """Where it appears; empty for a secret or an agent that says nothing about it."""
    if item.type in (MountType.SECRET, MountType.SSH):
        return normpath(join("/", cwd, item.target)) if item.target else ""
    try:
        return mount_target(item, cwd)
    except TextError as error:
        raise DockerfileError(error.problem, file=at.file, line=at.line, fix=error.fix) from error


def undo_close(undo: ExitStack, fd: int) -> int:
    undo.callback(os.close, fd)
    return fd


def cache_folder(home: Path, identity: str) -> Path:
    """Where the cache mounts of that id lie."""
    return home / "dockerfile" / "mounts" / hashlib.sha256(identity.encode()).hexdigest()[:32]


def _tmpfs(size_bytes: int, slot: Slot) -> int:
    options = [("mode", "1777"), ("uid", str(slot.base)), ("gid", str(slot.base))]
    if size_bytes:
        options.append(("size", str(size_bytes)))
    return mounts.new_filesystem("tmpfs", options)


def _give_secret(
    given: Given, item: Mount, target: str, secrets: Mapping[str, bytes], at: Position
) -> None:
    value = secrets.get(item.id)
    if value is None:
        if item.env is not None:
            given.env[item.env] = ""
        if item.required:
            raise DockerfileError(
                f"the secret {item.id!r} is not given to this build",
                file=at.file,
                line=at.line,
                fix=f"hako dockerfile build --secret id={item.id},src=FILE …",
            )
        return
    if item.env is not None:
        given.env[item.env] = value.decode("utf-8", "surrogateescape")
    if target or item.env is None:
        given.files.append(
            GivenFile(
                target=target or f"{_SECRETS}/{item.id}",
                data=value,
                mode=0o400 if item.mode is None else item.mode,
                uid=item.uid or 0,
                gid=item.gid or 0,
                read_only=True,
            )
        )


def _cache(workshop: Workshop, item: Mount, slot: Slot, undo: ExitStack, number: int) -> int:
    """A folder that stays from build to build; it belongs to an id, and is locked as `sharing` says."""
    folder = cache_folder(workshop.store.home, item.id or normpath(item.target))
    folder, lock = _lock_cache(workshop, folder, item.sharing)
    undo.callback(os.close, lock)
    data = folder / "data"
    if not data.is_dir():
        (folder / "id").write_text(f"{item.id or item.target}\n")
        _begin_cache(workshop, item, data, number)
    return undo_close(undo, mounts.clone_tree(data, slot.userns_fd))


def _lock_cache(workshop: Workshop, folder: Path, sharing: Sharing) -> tuple[Path, int]:
    """The folder to use, and a descriptor that holds its lock."""
    number = 0
    while True:
        chosen = folder if not number else folder.with_name(f"{folder.name}.{number}")
        lock = open_lock(chosen / "lock")
        kind = fcntl.LOCK_SH if sharing is Sharing.SHARED else fcntl.LOCK_EX
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if sharing is Sharing.PRIVATE:
                os.close(lock)
                number += 1
                continue
            workshop.report.note("waiting for another build that uses the same cache mount")
            fcntl.flock(lock, kind)
        if is_still_there(chosen / "lock", lock):
            return chosen, lock
        os.close(lock)  # the folder was forgotten between the two


def _begin_cache(workshop: Workshop, item: Mount, data: Path, number: int) -> None:
    """Make a new cache: empty, or with what `from` has at its source."""
    from shutil import rmtree

    new = data.with_name(f".new-{os.getpid()}-{number}-{os.urandom(4).hex()}")
    new.mkdir()
    if item.from_:
        from hakobune.dockerfile.copy_into import Copier, resolve_inside

        with workshop.open_tree(item.from_) as tree, ExitStack() as opened:
            source = tree.select_path(item.source or "/")
            root = undo_close(opened, os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            Copier(root).copy(source, "/")
            seed = os.stat(resolve_inside(tree.root, item.source) or ".", dir_fd=tree.root)
            os.chown(new, seed.st_uid, seed.st_gid)
            new.chmod(stat.S_IMODE(seed.st_mode))
    else:
        os.chown(new, item.uid or 0, item.gid or 0)
        new.chmod(0o755 if item.mode is None else item.mode)
    with exclusive(data.with_name("begin")):
        if not data.is_dir():  # an empty one would give way to another, and its mounts lead nowhere
            os.rename(new, data)
            return
    rmtree(new)  # another command was faster


def _bind(
    workshop: Workshop,
    item: Mount,
    top: Top,
    slot: Slot,
    undo: ExitStack,
    number: int,
    at: Position,
) -> int:
    """What a stage, an image or the context has; changes go to a top of its own and are thrown away with it."""
    scratch = top.scratch / f"b{number}"
    if not item.from_:
        copy = copy_from_context(workshop, item.source, scratch / "context", at)
        fd = mounts.overlay(RootFs(lowers=(copy,), top=scratch), slot)
    else:
        source = workshop.find_source(item.from_)
        with workshop.layers.lowers(source.layers) as lowers:
            fd = mounts.overlay(RootFs(lowers=lowers, top=scratch), slot)
    undo_close(undo, fd)
    _require(fd, item, at)
    return fd


def _require(fd: int, item: Mount, at: Position) -> None:
    from hakobune.dockerfile.copy_into import resolve_inside

    path = resolve_inside(fd, item.source)
    try:
        os.stat(path or ".", dir_fd=fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DockerfileError(
            f"{item.source} is not in {item.from_ or 'the build context'}",
            file=at.file,
            line=at.line,
            why="--mount=type=bind mounts it from there",
            fix="check source=" + (" and the ignore file" if not item.from_ else ""),
        ) from error
