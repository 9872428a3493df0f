"""Whom a registry knows us as: docker's and podman's files of credentials, and their helper programs.

Looked for, in this order: `REGISTRY_AUTH_FILE`, `${XDG_RUNTIME_DIR}/containers/auth.json`, `~/.config/containers/auth.json`,
`$DOCKER_CONFIG/config.json` or `~/.docker/config.json` (containers-auth.json.5, docker's "Credential stores").
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hakobune.errors import HakoError
from hakobune.oci.reference import DEFAULT_REGISTRY

# What docker calls the Hub in its files; the other names are older or written by hand.
HUB_KEYS: Final = (
    "https://index.docker.io/v1/",
    "index.docker.io",
    "docker.io",
    "registry-1.docker.io",
)
HELPER_TIME_LIMIT_S: Final = 30
_TOKEN_USER: Final = "<token>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user with a password, or a refresh token, or a ready bearer token. `repr` shows no secret."""

    user: str = ""
    password: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header; empty without a password."""
        if not (self.user and self.password):
            return ""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


ANONYMOUS: Final = Credentials()


class CredentialsError(HakoError):
    """A file or helper of credentials cannot be used. Never holds a secret."""


class CredentialFiles:
    """The files of one user, read when they are first asked."""

    def __init__(self, paths: Sequence[Path], env: Mapping[str, str]) -> None:
        self._paths = tuple(paths)
        self._env = dict(env)
        self._documents: tuple[tuple[Path, Mapping[str, Any]], ...] | None = None

    @classmethod
    def of_user(cls, env: Mapping[str, str], *, uid: int) -> CredentialFiles:
        """The files that docker and podman use for the user with this environment."""
        return cls(tuple(_paths(env, uid)), env)

    def find(self, host: str, repository: str) -> Credentials:
        """The credentials for a repository of *host* (`HOST[:PORT]`, the Hub is `docker.io`); `ANONYMOUS` if there are none.

        Raises:
            CredentialsError: a file is damaged, or a helper that is named does not work.
        """
        for path, document in self._read():
            found = self._find_in(document, path, host, repository)
            if found is not None:
                return found
        return ANONYMOUS

    def _find_in(
        self, document: Mapping[str, Any], path: Path, host: str, repository: str
    ) -> Credentials | None:
        helpers, auths = _mapping(document, "credHelpers", path), _mapping(document, "auths", path)
        for key in _host_keys(host):
            if isinstance(helper := helpers.get(key), str) and helper:
                return self._ask(helper, key)
        scoped = _scoped_keys(host, repository)
        for key in scoped:
            entry = auths.get(key)
            if isinstance(entry, dict) and (found := _parse_entry(entry, key, path)) is not None:
                return found
        store = document.get("credsStore")
        if isinstance(store, str) and store:
            for key in _host_keys(host)[:2]:
                if (found := self._ask(store, key)) is not None:
                    return found
        return None

    def _ask(self, helper: str, key: str) -> Credentials | None:
        """Run `docker-credential-HELPER get` (docker's "Credential helper protocol")."""
        if "/" in helper:
            raise CredentialsError(f"{helper!r} is not the name of a credential helper")
        import subprocess  # few have helpers

        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, "get"],
                input=key.encode(),
                capture_output=True,
                timeout=HELPER_TIME_LIMIT_S,
                env=self._env,
                check=False,
            )
        except FileNotFoundError as error:
            raise CredentialsError(
                f"cannot get the credentials for {key}",
                why=f"the configuration names the helper {program}, which is not installed",
                fix=f"install it, or remove {helper!r} from docker's config.json",
            ) from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CredentialsError(
                f"cannot get the credentials for {key}", why=f"{program} does not answer"
            ) from error
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            if "not found" in said or "no credentials" in said:
                return None
            raise CredentialsError(
                f"cannot get the credentials for {key}",
                why=f"{program} failed with exit code {done.returncode}{_says(said)}",
                fix=f"try `echo {key} | {program} get`",
            )
        return _parse_answer(done.stdout, program, key)

    def _read(self) -> tuple[tuple[Path, Mapping[str, Any]], ...]:
        if self._documents is None:
            self._documents = tuple(_documents(self._paths))
        return self._documents


def _paths(env: Mapping[str, str], uid: int) -> Iterator[Path]:
    home = Path(env.get("HOME") or "/")
    if named := env.get("REGISTRY_AUTH_FILE"):
        yield Path(named)
    runtime = env.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime) / "containers" / "auth.json"
    elif uid == 0:
        yield Path("/run/containers/0/auth.json")
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    yield config / "containers" / "auth.json"
    yield docker_config(env)


def docker_config(env: Mapping[str, str]) -> Path:
    """The file that `docker login` writes."""
    folder = env.get("DOCKER_CONFIG") or Path(env.get("HOME") or "/") / ".docker"
    return Path(folder) / "config.json"


def _documents(paths: Sequence[Path]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in paths:
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        try:
            document = json.loads(data or b"{}")
        except ValueError as error:
            raise CredentialsError(
                f"cannot read {path}",
                why="it is not JSON",
                fix="log in again; docker and podman write the file",
            ) from error
        if isinstance(document, dict):
            yield path, document


def _mapping(document: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    value = document.get(key) or {}
    if not isinstance(value, dict):
        raise CredentialsError(f"cannot read {path}", why=f"its {key} is not an object")
    return value


def _host_keys(host: str) -> tuple[str, ...]:
    """How a registry may be called in these files, the usual way first."""
    if host in HUB_KEYS or host == DEFAULT_REGISTRY:
        return HUB_KEYS
    return (host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/")


def _scoped_keys(host: str, repository: str) -> tuple[str, ...]:
    """Podman's keys can be of a repository or of a part of its path; the longest counts."""
    registry = DEFAULT_REGISTRY if host in HUB_KEYS else host
    parts = repository.split("/")
    scoped = [f"{registry}/{'/'.join(parts[:count])}" for count in range(len(parts), 0, -1)]
    return (*scoped, *_host_keys(host))


def _parse_entry(entry: Mapping[str, Any], key: str, path: Path) -> Credentials | None:
    if token := entry.get("identitytoken"):
        user = _decode_auth(entry, key, path)[0] if entry.get("auth") else ""
        return Credentials(user=user, refresh_token=str(token))
    if token := entry.get("registrytoken"):
        return Credentials(bearer=str(token))
    if entry.get("auth"):
        user, password = _decode_auth(entry, key, path)
        return Credentials(user=user, password=password)
    if entry.get("username") and entry.get("password"):
        return Credentials(user=str(entry["username"]), password=str(entry["password"]))
    return None  # docker leaves an empty entry where a store has the secret


def _decode_auth(entry: Mapping[str, Any], key: str, path: Path) -> tuple[str, str]:
    try:
        text = base64.b64decode(str(entry["auth"]), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise CredentialsError(
            f"cannot read {path}",
            why=f"the `auth` of {key} is not base64 of USER:PASSWORD",
            fix="log in again",
        ) from error
    user, _, password = text.partition(":")
    return user, password.rstrip("\0")


def _says(text: str) -> str:
    """What a helper that failed says; nothing if that could be a credential after all."""
    from hakobune.distribution.errors import one_line

    said = "" if "{" in text else one_line(text)
    return f": {said}" if said else ""


def _parse_answer(data: bytes, program: str, key: str) -> Credentials:
    try:
        answer = json.loads(data)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise CredentialsError(
            f"cannot get the credentials for {key}",
            why=f"{program} gave something that is no credential",
        ) from None  # the cause would quote the answer
    if user == _TOKEN_USER:
        return Credentials(refresh_token=secret)
    return Credentials(user=user, password=secret)
