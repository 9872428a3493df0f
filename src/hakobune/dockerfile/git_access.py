"""What git may use on behalf of one build: the agent and the tokens that are given to it (`--ssh default`, `--secret id=GIT_AUTH_TOKEN`).

A token becomes a header in git's environment, for one repository: it is in no command line, no file and no message.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from hakobune.dockerfile.remote_url import basic, split_credentials

if TYPE_CHECKING:  # most builds lend none
    from hakobune.dockerfile.ssh_agent import Agent

_TOKEN, _HEADER = "GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"
# No variable that a caller could have by chance.
_SECRET: Final = "secret:"


@contextmanager
def git_environment(
    env: Mapping[str, str], agent: Agent | None, secrets: Mapping[str, bytes]
) -> Iterator[Mapping[str, str]]:
    """The caller's variables for git, while the block lasts.

    Args:
        agent: asked by ssh instead of the one of `SSH_AUTH_SOCK`.
        secrets: of the build; `GIT_AUTH_TOKEN`, `GIT_AUTH_HEADER` and these with `.HOST` are for git.
    """
    tokens = {
        f"{_SECRET}{name}": value.decode("utf-8", "surrogateescape").strip()
        for name, value in secrets.items()
        if name.partition(".")[0] in (_TOKEN, _HEADER)
    }
    if agent is None:
        yield {**env, **tokens}
        return
    import tempfile  # 14 ms

    from hakobune.dockerfile.ssh_agent import SOCKET, lent_agent

    with tempfile.TemporaryDirectory(prefix="hako-ssh-") as folder:
        lent = Path(folder) / "lent"
        with lent_agent(agent, lent, owner=(os.geteuid(), os.getegid()), mode=0o600):
            yield {**env, **tokens, "SSH_AUTH_SOCK": str(lent / SOCKET)}


def split_access(remote: str, env: Mapping[str, str]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The remote without user and password, and git's settings that let it in instead.

    What the URL says holds before the secrets; of these the host's own before the others, a header before a token.
    """
    remote, header = split_credentials(remote)
    if not remote.startswith(("http://", "https://")):
        return remote, ()
    header = header or _from_secrets(urlsplit(remote).netloc, env)
    return remote, ((f"http.{remote}.extraHeader", f"Authorization: {header}"),) if header else ()


def _from_secrets(host: str, env: Mapping[str, str]) -> str:
    for suffix in (f".{host}", ""):
        if header := env.get(f"{_SECRET}{_HEADER}{suffix}"):
            return header
        if token := env.get(f"{_SECRET}{_TOKEN}{suffix}"):
            return basic("x-access-token", token)
    return ""
