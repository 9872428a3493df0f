"""Keeping credentials where docker, podman and we find them: `config.json`, or the store that it names."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hakobune.distribution.access import Access
from hakobune.distribution.client import RegistryClient
from hakobune.distribution.credentials import (
    HELPER_TIME_LIMIT_S,
    HUB_KEYS,
    CredentialFiles,
    Credentials,
    CredentialsError,
)
from hakobune.distribution.errors import one_line
from hakobune.distribution.session import Session
from hakobune.oci.reference import Reference
from hakobune.support.files import write_atomically


class _OneUser(CredentialFiles):
    """Credentials that are in no file yet."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__((), {})
        self._credentials = credentials

    def find(self, host: str, repository: str) -> Credentials:
        return self._credentials


def check_login(access: Access, host: str, credentials: Credentials) -> None:
    """Ask the registry whether it knows the user; this installation's own by its address, since all who reach its socket are its owner.

    Raises:
        RegistryError: it does not, or does not answer.
    """
    asked = Access(
        registries=replace(access.registries, own=None),
        credentials=_OneUser(credentials),
        proxies=access.proxies,
        stall_s=access.stall_s,
    )
    what = f"cannot log in to {host}"
    with Session(asked, note=lambda text: None) as session:
        reference = Reference(host, "login", tag="latest")
        endpoint = asked.registries.endpoints(reference, pull=False)[0]
        RegistryClient(session, endpoint, what=what, actions="").ping()


def keep_login(path: Path, env: Mapping[str, str], host: str, credentials: Credentials) -> str:
    """Write the credentials into docker's *path*, or give them to the store it names; says where they are.

    Raises:
        CredentialsError: the file is damaged, or the store does not take them.
    """
    document = _read(path)
    helper = _helper(document, host)
    auths = document.setdefault("auths", {})
    if helper:
        secret = {
            "ServerURL": _key(host),
            "Username": credentials.user,
            "Secret": credentials.password,
        }
        _run(helper, "store", json.dumps(secret), env, secret=credentials.password)
        auths[_key(host)] = {}
    else:
        text = f"{credentials.user}:{credentials.password}"
        auths[_key(host)] = {"auth": base64.b64encode(text.encode()).decode()}
    _write(path, document)
    return f"docker-credential-{helper}" if helper else str(path)


def forget_login(path: Path, env: Mapping[str, str], host: str) -> bool:
    """Remove what `keep_login` kept; `False` if there was nothing."""
    document = _read(path)
    if helper := _helper(document, host):
        _run(helper, "erase", _key(host), env)
    found = document.get("auths", {}).pop(_key(host), None) is not None
    if found:
        _write(path, document)
    return found or bool(helper)


def name_helper(path: Path, hosts: Iterable[str], helper: str) -> None:
    """Have docker ask `docker-credential-HELPER` for *hosts*; a password that stood there for one of them goes.

    Raises:
        CredentialsError: the file is damaged.
    """
    document = _read(path)
    helpers = document.setdefault("credHelpers", {})
    if not isinstance(helpers, dict):
        raise CredentialsError(f"cannot read {path}", why="its credHelpers is not an object")
    for host in hosts:
        helpers[host] = helper
        document.get("auths", {}).pop(host, None)
    _write(path, document)


def _key(host: str) -> str:
    return HUB_KEYS[0] if host in HUB_KEYS else host


def _helper(document: Mapping[str, Any], host: str) -> str:
    helper = (document.get("credHelpers") or {}).get(_key(host)) or document.get("credsStore")
    return helper if isinstance(helper, str) else ""


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise CredentialsError(f"cannot read {path}", why="it is not JSON") from error
    if not isinstance(document, dict) or not isinstance(document.get("auths", {}), dict):
        raise CredentialsError(f"cannot read {path}", why="it is not docker's config.json")
    return document


def _write(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    target = Path(os.path.realpath(path))  # a linked file stays a link
    write_atomically(target, json.dumps(document, indent="\t").encode(), mode=0o600)


def _run(helper: str, verb: str, text: str, env: Mapping[str, str], *, secret: str = "") -> None:
    """docker's "Credential helper protocol"; what it says is told, unless it holds the *secret*."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, verb],
            input=text.encode(),
            capture_output=True,
            timeout=HELPER_TIME_LIMIT_S,
            env=dict(env),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CredentialsError(f"{program} does not answer", why=type(error).__name__) from None
    if done.returncode:
        said = one_line((done.stdout + done.stderr).decode(errors="replace"))
        if secret and secret in said:
            said = ""
        why = f"exit code {done.returncode}{': ' + said if said else ''}"
        raise CredentialsError(f"{program} {verb} failed", why=why)
