"""ADD of a git repository: the commit is looked up at each build, its files are fetched once.

git is the machine's own, with the caller's keys; it runs nothing that the repository brings (hooks, filters, other protocols).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from hakobune.dockerfile.git_access import split_access
from hakobune.dockerfile.git_source import GitSource
from hakobune.errors import HakoError
from hakobune.support.locks import is_still_there, open_lock, try_exclusive

_TIMEOUT_S = 600
_SAFE = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("protocol.allow", "never"),
    ("protocol.http.allow", "always"),
    ("protocol.https.allow", "always"),
    ("protocol.git.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("advice.detachedHead", "false"),
    ("init.defaultBranch", "main"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
)
_EACH_TIME = ("Please make sure you have the correct access rights", "and the repository exists.")
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class GitError(HakoError):
    """A repository cannot be had, or is not what was asked for."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The files of one commit. They are as old as the commit, with mode 0644 or 0755.

    Attributes:
        folder: the whole tree; what the source calls its folder is a path in it.
        commit: its full hash.
    """

    folder: Path
    commit: str


@contextmanager
def checked_out(source: GitSource, folder: Path, env: Mapping[str, str]) -> Iterator[Checkout]:
    """The files of what *source* names, kept below *folder* for later builds; nobody forgets them in the block.

    Args:
        env: for `PATH`, keys (`SSH_AUTH_SOCK`, `HOME`) and proxies; of `git_access.git_environment` also tokens.

    Raises:
        GitError: git is not here, the repository does not answer, or the commit is not the expected one.
    """
    remote, access = split_access(source.remote, env)
    source = replace(source, remote=remote)
    git = _Git(_environment(env, access))
    commit = source.ref if source.is_commit else _look_up(git, source)
    if source.commit and not commit.startswith(source.commit):
        raise GitError(
            f"{source.remote}{'#' * bool(source.ref)}{source.ref} is not the expected commit",
            why=f"it is {commit}, not {source.commit}",
            fix="write the commit that you have looked at",
        )
    name = _name(source, commit)
    done = folder / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.lock"
    while True:
        with _locked(path, fcntl.LOCK_SH) as lock:
            if done.is_dir() and is_still_there(path, lock):
                os.utime(lock)  # used now: see `forget_checkouts`
                yield Checkout(done, commit)
                return
        with _locked(path, fcntl.LOCK_EX) as lock:
            if is_still_there(path, lock) and not done.is_dir():
                _make(git, source, commit, done)


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[int]:
    lock = open_lock(path)
    try:
        fcntl.flock(lock, kind)
        yield lock
    finally:
        os.close(lock)


def forget_checkouts(folder: Path, *, unused_for_s: float = 0) -> None:
    """Remove what no build has used for that long and none is using now."""
    limit = time.time() - unused_for_s
    for path in folder.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):  # another build forgets it, too
            if path.stat().st_mtime > limit or (lock := try_exclusive(path)) is None:
                continue
            try:
                if is_still_there(path, lock):
                    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                    path.unlink()
            finally:
                os.close(lock)


def _name(source: GitSource, commit: str) -> str:
    told = "\0".join(
        [source.remote, commit, str(bool(source.keep_git_dir)), str(source.submodules)]
    )
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def _environment(
    env: Mapping[str, str], access: tuple[tuple[str, str], ...] = ()
) -> dict[str, str]:
    kept = ("PATH", "HOME", "SSH_AUTH_SOCK", "LANG", "SSL_CERT_FILE", "GIT_SSL_CAINFO")
    ours = {name: env[name] for name in kept if name in env}
    ours |= {name: value for name, value in env.items() if name.lower().endswith("_proxy")}
    ours |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new",
        "GIT_CONFIG_COUNT": str(len(_SAFE) + len(access)),
    }
    for number, (key, value) in enumerate((*_SAFE, *access)):
        ours |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return ours


def what_git_said(text: str) -> str:
    """The last of what git and ssh print when they fail, without what git says each time."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(_EACH_TIME)]
    return "; ".join(said[-2:])


def fix_for_git(said: str) -> str:
    """What to do about it."""
    if "could not read Username" in said or "Authentication failed" in said:
        return "if the repository is private: --secret id=GIT_AUTH_TOKEN,src=FILE"
    if "Permission denied" in said:
        return "lend a key that may read it: --ssh default, or --ssh default=KEYFILE"
    return "check the address: git ls-remote REPOSITORY"


@dataclass(frozen=True, slots=True)
class _Git:
    env: Mapping[str, str]

    def run(self, arguments: Sequence[str], *, what: str, cwd: Path | None = None) -> str:
        """Its standard output.

        Raises:
            GitError: git is not here, fails, or takes too long.
        """
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=cwd,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TIMEOUT_S,
                umask=0o022,
            )
        except FileNotFoundError as error:
            raise GitError(
                what, why="there is no git on this machine", fix="apt install git"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise GitError(what, why=f"git took longer than {_TIMEOUT_S} s") from error
        if done.returncode:
            said = what_git_said(done.stderr.decode("utf-8", "replace"))
            raise GitError(
                what, why=said or f"git ended with {done.returncode}", fix=fix_for_git(said)
            )
        return done.stdout.decode("utf-8", "replace")


def _look_up(git: _Git, source: GitSource) -> str:
    """The commit that a ref means now: a branch before a tag of the same name is not a question, git's order holds."""
    ref = source.ref or "HEAD"
    what = f"cannot find {ref} in {source.remote}"
    listed = git.run(["ls-remote", "--", source.remote, ref, f"{ref}^{{}}"], what=what)
    found: dict[str, str] = {}
    for line in listed.splitlines():
        hash_, _, name = line.partition("\t")
        found[name] = hash_
    for name in (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}"):
        commit = found.get(f"{name}^{{}}") or found.get(name)
        if commit is not None and _HASH.fullmatch(commit):
            return commit
    raise GitError(
        what,
        why="the repository has no such branch or tag",
        fix="write a branch, a tag or a commit",
    )


def _make(git: _Git, source: GitSource, commit: str, done: Path) -> None:
    what = f"cannot fetch {source.remote}"
    new = done.with_name(f".new-{done.name}-{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    try:
        git.run(["init", "-q", str(new)], what=what)
        git.run(["remote", "add", "origin", "--", source.remote], what=what, cwd=new)
        _fetch(git, source, commit, new)
        git.run(["checkout", "-q", "--force", "--detach", commit], what=what, cwd=new)
        if source.submodules and (new / ".gitmodules").exists():
            submodules = ["submodule", "update", "-q", "--init", "--recursive", "--depth=1"]
            git.run(submodules, what=what, cwd=new)
        committed = int(git.run(["show", "-s", "--format=%ct", commit], what=what, cwd=new).strip())
        _settle(new, committed, keep_git_dir=bool(source.keep_git_dir))
        os.rename(new, done)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _fetch(git: _Git, source: GitSource, commit: str, into: Path) -> None:
    """The commit alone; servers that do not give single commits give everything."""
    what = f"cannot fetch {source.remote}"
    fetch = ["fetch", "-q", "--no-tags", "--no-recurse-submodules"]
    try:
        git.run([*fetch, "--depth=1", "origin", commit], what=what, cwd=into)
    except GitError:
        everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        git.run([*fetch, "origin", *everything], what=what, cwd=into)


def _settle(top: Path, committed: int, *, keep_git_dir: bool) -> None:
    """Modes as git means them, times of the commit, and `.git` only if it is wanted."""
    for folder, folders, files in os.walk(top, topdown=True):
        if ".git" in folders and not keep_git_dir:
            shutil.rmtree(os.path.join(folder, ".git"))
        folders[:] = [name for name in folders if name != ".git"]
        if ".git" in files and not keep_git_dir:  # of a submodule
            os.unlink(os.path.join(folder, ".git"))
            files.remove(".git")
        for name in (*files, *folders):
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                executable = os.path.isdir(path) or os.stat(path).st_mode & 0o100
                os.chmod(path, 0o755 if executable else 0o644)
            os.utime(path, (committed, committed), follow_symlinks=False)
    for folder, _, _ in os.walk(top, topdown=False):
        os.utime(folder, (committed, committed))
    os.chmod(top, 0o755)
