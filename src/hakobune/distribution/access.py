"""How a user reaches registries: files and environment, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hakobune.distribution.credentials import CredentialFiles
from hakobune.distribution.proxies import Proxies
from hakobune.distribution.registries import Registries


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How this user reaches registries: read once from the environment and the files that podman and docker have."""

    registries: Registries
    credentials: CredentialFiles
    proxies: Proxies
    stall_s: float = 30.0  # how long a server may send nothing before it is asked again

    @classmethod
    def read(cls, env: Mapping[str, str], home: Path, *, uid: int) -> Access:
        """See `Registries.read`, `CredentialFiles.of_user` and `Proxies.read`.

        Args:
            home: `HAKO_HOME`, which may hold a `registries.conf` and `certs.d` of its own.

        Raises:
            HakoError: a file cannot be understood.
        """
        return cls(
            registries=Registries.read(env, home),
            credentials=CredentialFiles.of_user(env, uid=uid),
            proxies=Proxies.read(env),
        )
