"""`hako auth docker-helper get|store|erase|list`: docker's credential helper protocol (docker-credential-helpers, "Development").

Asked for this installation's registry, it answers with a login that docker has stored here, or else with a token of the owner that
lives an hour. docker runs it as `docker-credential-NAME`, which `hako auth configure-docker` puts in place. What
goes wrong is told on stdout, where docker looks for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from hakobune.cli.main import Context
from hakobune.errors import HakoError
from hakobune.support.files import write_atomically

TOKEN_USER = "oauth2accesstoken"
NOT_FOUND = "credentials not found in native keychain"  # the words that docker and podman know

Logins = dict[str, dict[str, str]]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("verb", choices=("get", "store", "erase", "list"))
    parser.set_defaults(run=_run)


def host_of(server: str) -> str:
    """`HOST[:PORT]` of what docker calls a server, which may be a URL."""
    text = server.strip()
    return (urlsplit(text).netloc if "://" in text else text.partition("/")[0]).lower()


def is_ours(context: Context, host: str) -> bool:
    """Whether *host* may be given a token: it is this installation's registry, or Artifact Registry's name for one."""
    from hakobune.distribution.own_registry import OwnRegistry

    return host in OwnRegistry.of(context.settings).hosts or host.endswith("-docker.pkg.dev")


def logins_path(context: Context) -> Path:
    """Where logins are kept: one file an installation, readable by its user alone."""
    config = context.env.get("XDG_CONFIG_HOME") or f"{context.env.get('HOME', '/')}/.config"
    return Path(config) / "hakobune" / f"{context.settings.installation}-logins.json"


def _run(arguments: argparse.Namespace, context: Context) -> int:
    try:
        match arguments.verb:
            case "get":
                return _get(sys.stdin, context)
            case "store":
                return _store(sys.stdin, context)
            case "erase":
                return _erase(sys.stdin, context)
            case _:
                return _list(context)
    except HakoError as error:
        print(error.what, file=context.out)
        return 1


def _get(stream: TextIO, context: Context) -> int:
    server = stream.readline().strip()
    host = host_of(server)
    stored = _read(context).get(host)
    if stored is not None:
        answer = {"ServerURL": server, **stored}
    elif is_ours(context, host) and (token := _token(context)):
        answer = {"ServerURL": server, "Username": TOKEN_USER, "Secret": token}
    else:
        print(NOT_FOUND, file=context.out)
        return 1
    print(json.dumps(answer), file=context.out)
    return 0


def _store(stream: TextIO, context: Context) -> int:
    try:
        sent = json.loads(stream.read())
        host = host_of(str(sent["ServerURL"]))
        login = {"Username": str(sent["Username"]), "Secret": str(sent["Secret"])}
    except (ValueError, KeyError, TypeError):
        raise HakoError("what is to be stored is no login") from None  # the cause would quote it
    _write(context, {**_read(context), host: login})
    return 0


def _erase(stream: TextIO, context: Context) -> int:
    host = host_of(stream.readline())
    logins = _read(context)
    if logins.pop(host, None) is not None:
        _write(context, logins)
    return 0


def _list(context: Context) -> int:
    from hakobune.distribution.own_registry import OwnRegistry

    users = dict.fromkeys(sorted(OwnRegistry.of(context.settings).hosts), TOKEN_USER)
    users |= {host: login["Username"] for host, login in _read(context).items()}
    print(json.dumps(users), file=context.out)
    return 0


def _token(context: Context) -> str:
    """A token of the owner; empty for a user who may not have one, who then pulls what everybody may."""
    from hakobune.cli.client import Client

    client = Client(context.settings.api_socket, version="v1")
    try:
        return str(client.post("owner:generateAccessToken", {})["accessToken"])
    except HakoError:
        return ""


def _read(context: Context) -> Logins:
    path = logins_path(context)
    try:
        logins = json.loads(path.read_bytes() or b"{}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HakoError(f"cannot read {path}") from error
    if not isinstance(logins, dict):
        raise HakoError(f"cannot read {path}")
    return logins


def _write(context: Context, logins: Logins) -> None:
    path = logins_path(context)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, json.dumps(logins, indent=1).encode(), mode=0o600)
