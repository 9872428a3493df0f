"""How a user reaches registries: files and environment, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from hakobune.distribution.credentials import CredentialFiles, Credentials
from hakobune.distribution.own_registry import OwnRegistry
from hakobune.distribution.patience import ATTEMPTS
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import Registries
from hakobune.settings import Settings


class CredentialSource(Protocol):
    """Knows who we are at a repository of `HOST[:PORT]`; `ANONYMOUS` if nobody."""

    def find(self, host: str, repository: str) -> Credentials: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How a user reaches registries: for commands read once from the environment and the files that podman and docker have.

    Attributes:
        stall_s: how long a server may send nothing before it is asked again.
        connect_s: how long a connection may take.
        head_s: how long the head of an answer may take; `stall_s` if `None`.
        attempts: how often a request is sent that another try may help.
    """

    registries: Registries
    credentials: CredentialSource
    proxies: Proxies
    stall_s: float = 30.0
    connect_s: float = 10.0
    head_s: float | None = None
    attempts: int = ATTEMPTS

    @classmethod
    def read(cls, env: Mapping[str, str], home: Path, *, uid: int) -> Access:
        """See `Registries.read`, `CredentialFiles.of_user` and `Proxies.read`; this installation's own registry is reached by its socket.

        Args:
            home: `HAKO_HOME`, which may hold a `registries.conf` and `certs.d` of its own.

        Raises:
            HakoError: a file cannot be understood.
        """
        settings = Settings.from_environment({**env, "HAKO_HOME": str(home)}, uid=uid)
        return cls(
            registries=replace(Registries.read(env, home), own=OwnRegistry.of(settings)),
            credentials=CredentialFiles.of_user(env, uid=uid),
            proxies=Proxies.read(env),
        )
