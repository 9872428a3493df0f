"""What ADD of a git repository, or a build context, names: remote, ref, folder and options (Docker's build context reference "Git repositories")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from posixpath import normpath
from urllib.parse import parse_qsl

from msgspec import Struct
from msgspec.structs import replace

from hakobune.dockerfile.errors import TextError, did_you_mean
from hakobune.dockerfile.remote_url import shown

_URL = re.compile(r"(https?|git|ssh)://[^/?#]+/[^?#]*", re.IGNORECASE)
_SCP = re.compile(r"[a-zA-Z0-9._-]+@[a-zA-Z0-9.-]+:[^?#]+")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_QUERY = (
    "ref",
    "tag",
    "branch",
    "subdir",
    "commit",
    "checksum",
    "keep-git-dir",
    "submodules",
    "mtime",
    "fetch-by-commit",
)
_MAY_BE_EMPTY = ("keep-git-dir", "submodules", "fetch-by-commit")
_BOOLS = {"": True, "1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class GitSource(Struct, frozen=True, kw_only=True):
    """A commit of a repository, or a folder of it.

    Attributes:
        remote: for git, without fragment and query.
        ref: branch, tag, full ref or commit; empty for the remote's HEAD.
        folder: relative, empty for all of it.
        commit: what the ref must be, empty if anything is right.
        keep_git_dir: whether `.git` is part of it; None: not said.
        submodules: whether they are fetched, too.
    """

    remote: str
    ref: str = ""
    folder: str = ""
    commit: str = ""
    keep_git_dir: bool | None = None
    submodules: bool = True

    @property
    def is_commit(self) -> bool:
        """Whether the ref is a commit, which never means another one."""
        return _COMMIT.fullmatch(self.ref) is not None


def is_git(source: str) -> bool:
    """Whether ADD clones it: `git@host:path`, `git://…`, `ssh://…`, `https://….git`."""
    remote = re.split(r"[?#]", source, maxsplit=1)[0]
    if _SCP.fullmatch(remote):
        return True
    match = _URL.fullmatch(remote)
    return match is not None and (match[1].lower() in ("git", "ssh") or remote.endswith(".git"))


def read_git_source(source: str) -> GitSource:
    """`REMOTE?ref=…&subdir=…` or `REMOTE#REF:FOLDER`.

    Raises:
        TextError: options that are unknown or contradict each other.
    """
    rest, _, fragment = source.partition("#")
    remote, _, query = rest.partition("?")
    ref, _, folder = fragment.partition(":")
    scheme, separator, address = remote.partition("://")
    remote = scheme.lower() + separator + address if separator else remote
    found = GitSource(remote=remote, ref=ref, folder=_clean(folder))
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    for name in options:
        if name not in _QUERY:
            raise TextError(
                f"a git source has no option {name!r}",
                near=source,
                fix=did_you_mean(name, _QUERY) or "it knows " + ", ".join(_QUERY),
            )
    for name, value in pairs:
        if not value and name not in _MAY_BE_EMPTY:
            raise TextError(f"{name}= has no value", near=source, fix="leave it out")
    if len(options) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TextError(f"{twice}= is written twice", near=source, fix="leave one out")
    if options.get("mtime", "commit") not in ("commit", "checkout"):
        raise TextError(
            f"mtime is commit or checkout, not {options['mtime']!r}",
            near=source,
            fix="write mtime=commit",
        )
    _bool(options, "fetch-by-commit", source)
    found = _with_options(found, options, source)
    if found.ref.startswith("-"):
        raise TextError(f"{found.ref!r} is no ref", near=source, fix="refs begin with a letter")
    return found


def _clean(folder: str) -> str:
    return normpath("/" + folder).lstrip("/")


def _with_options(found: GitSource, options: Mapping[str, str], source: str) -> GitSource:
    refs = [
        ("refs/tags/" if name == "tag" else "refs/heads/" if name == "branch" else "")
        + options[name].removeprefix("refs/tags/").removeprefix("refs/heads/")
        if name != "ref"
        else options[name]
        for name in ("ref", "tag", "branch")
        if options.get(name)
    ]
    for ref in refs:
        if found.ref not in ("", ref):
            raise TextError(
                f"{shown(source)} names two refs: {found.ref} and {ref}",
                near=source,
                fix="leave one out",
            )
        found = replace(found, ref=ref)
    if found.folder and options.get("subdir", found.folder) != found.folder:
        raise TextError(
            f"{shown(source)} names two folders: {found.folder} and {options['subdir']}",
            near=source,
            fix="leave one out",
        )
    return replace(
        found,
        folder=_clean(options["subdir"]) if options.get("subdir") else found.folder,
        commit=(options.get("commit") or options.get("checksum") or "").lower(),
        keep_git_dir=_bool(options, "keep-git-dir", source),
        submodules=_bool(options, "submodules", source) is not False,
    )


def _bool(options: Mapping[str, str], name: str, source: str) -> bool | None:
    if name not in options:
        return None
    value = _BOOLS.get(options[name].lower())
    if value is None:
        raise TextError(
            f"{name} is true or false, not {options[name]!r}", near=source, fix=f"write {name}=true"
        )
    return value


def with_flags(source: GitSource, checksum: str, keep_git_dir: bool | None) -> GitSource:
    """With what ADD's flags say.

    Raises:
        TextError: they contradict the URL.
    """
    checksum = checksum.lower()
    if checksum and source.commit and not checksum.startswith(source.commit):
        raise TextError(
            f"--checksum={checksum} and the URL's {source.commit} differ", fix="leave one out"
        )
    if None not in (keep_git_dir, source.keep_git_dir) and keep_git_dir != source.keep_git_dir:
        raise TextError("--keep-git-dir and the URL's keep-git-dir differ", fix="leave one out")
    keep = source.keep_git_dir if keep_git_dir is None else keep_git_dir
    return replace(source, commit=checksum or source.commit, keep_git_dir=keep)
