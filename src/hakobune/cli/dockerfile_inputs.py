"""What `--secret`, `--ssh` and `--build-context` give to a Dockerfile's build."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hakobune.errors import UsageError

if TYPE_CHECKING:  # the build's imports take longer than `--help` may
    from hakobune.dockerfile.request import NamedContext
    from hakobune.dockerfile.ssh_agent import Agent


def read_contexts(texts: Iterable[str]) -> dict[str, NamedContext]:
    """`--build-context NAME=…`, by name.

    Raises:
        UsageError: one has no name, or names nothing.
    """
    if not texts:
        return {}
    from hakobune.dockerfile.named_contexts import parse_context

    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(
                f"--build-context {text} cannot be understood",
                why="it has no name" if equals and not name else "it does not say what the name is",
                fix="--build-context NAME=DIR",
            )
        found[name] = parse_context(value, folder=Path.cwd())
    return found


def read_agents(texts: Iterable[str], env: Mapping[str, str]) -> dict[str, Agent]:
    """The agents of `--ssh ID[=SOCKET|KEYFILE,…]`, by id.

    Raises:
        UsageError: an agent or a key is not there, or cannot be used.
    """
    found: dict[str, Agent] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name or "default"
        if name in found:
            raise UsageError(
                f"--ssh {name} is given twice",
                why="one id is one agent",
                fix=f"give several keys at once: --ssh {name}=KEYFILE,KEYFILE",
            )
        found[name] = _agent(name, value, env)
    return found


def _agent(name: str, value: str, env: Mapping[str, str]) -> Agent:
    from hakobune.dockerfile.ssh_agent import SocketAgent

    what = f"the ssh agent {name} cannot be lent"
    if not value and not env.get("SSH_AUTH_SOCK"):
        raise UsageError(
            what,
            why="SSH_AUTH_SOCK is not set: no agent runs for this user",
            fix=f'eval "$(ssh-agent)" && ssh-add; or --ssh {name}=KEYFILE',
        )
    paths = [Path(text).expanduser() for text in (value or env["SSH_AUTH_SOCK"]).split(",") if text]
    sockets = [path for path in paths if path.is_socket()]
    if sockets and len(paths) > 1:
        raise UsageError(
            what,
            why=f"{sockets[0]} is the socket of an agent, and an id is one agent or keys",
            fix=f"ssh-add the keys, or give the agent another id: --ssh ID={sockets[0]}",
        )
    if sockets:
        return SocketAgent(sockets[0])
    if not paths or not value:
        raise UsageError(
            what,
            why=f"{value or env['SSH_AUTH_SOCK']} is no socket of one",
            fix=f"--ssh {name}=SOCKET or --ssh {name}=KEYFILE",
        )
    return _key_agent(paths)


def _key_agent(paths: Iterable[Path]) -> Agent:
    from hakobune.dockerfile.ssh_keys import KeyAgent, KeyFileError, read_key

    try:
        return KeyAgent([read_key(path) for path in paths])
    except KeyFileError as error:
        raise UsageError(error.what, why=error.why, fix=error.fix) from error


def read_secrets(texts: Iterable[str], env: Mapping[str, str]) -> dict[str, bytes]:
    """The values of `--secret id=ID[,src=FILE|,env=NAME]`, by id.

    Raises:
        UsageError: one cannot be understood or had.
    """
    found = {}
    for text in texts:
        fields: dict[str, str] = {}
        for part in text.split(","):
            key, _, value = part.partition("=")
            fields[key.strip()] = value
        identity = fields.get("id", "")
        source = fields.get("src") or fields.get("source")
        variable = fields.get("env")
        unknown = set(fields) - {"id", "src", "source", "env", "type"}
        if not identity or unknown:
            raise UsageError(
                "a --secret cannot be understood",
                why=f"it has no field {sorted(unknown)[0]!r}" if unknown else "it has no id",
                fix="--secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE",
            )
        found[identity] = _secret_value(identity, source, variable, env)
    return found


def _secret_value(
    identity: str, source: str | None, variable: str | None, env: Mapping[str, str]
) -> bytes:
    what = f"the secret {identity} cannot be had"
    if source is None:
        name = variable or identity
        if name in env:
            return os.fsencode(env[name])
        if variable is not None:
            raise UsageError(
                what,
                why=f"{variable} is not set",
                fix=f"export {variable}, or --secret id={identity},src=FILE",
            )
        source = identity
    try:
        return Path(source).expanduser().read_bytes()
    except OSError as error:
        raise UsageError(
            what,
            why=f"{source}: {error.strerror}",
            fix=f"--secret id={identity},src=FILE or --secret id={identity},env=VARIABLE",
        ) from error
