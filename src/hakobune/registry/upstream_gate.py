"""Whether one repository here may stand before another: as in Google's cloud, the registry's agent of its project reads there.

Asked at each use, so what is taken away is no longer shown. Otherwise whoever may make repositories in one project could read every
other project's.
"""

from __future__ import annotations

from typing import Protocol

from hakobune.iam.principal import registry_agent
from hakobune.iam.roles import PULL_VIA_VIRTUAL
from hakobune.iam.store import IamStore
from hakobune.registry.errors import RegistryError
from hakobune.registry.repository import Repository


class UpstreamGate(Protocol):
    """Decides for one pair of repositories."""

    async def check(self, repository: Repository, upstream: Repository) -> None:
        """Return if *repository* may give out what *upstream* has.

        Raises:
            RegistryError: DENIED; the message says which grant is missing.
        """
        ...


class SameProject:
    """Lets repositories of one project through to each other, and nothing else."""

    async def check(self, repository: Repository, upstream: Repository) -> None:
        if repository.project != upstream.project:
            raise denied(repository, upstream)


class AgentGate:
    """Asks the policies of the upstream and its project; within one project nothing has to be granted."""

    def __init__(self, iam: IamStore) -> None:
        self._iam = iam

    async def check(self, repository: Repository, upstream: Repository) -> None:
        if repository.project == upstream.project:
            return
        agent = registry_agent(repository.project)
        verdict = await self._iam.check(agent, PULL_VIA_VIRTUAL, upstream.resource)
        if not verdict.allowed:
            raise denied(repository, upstream)


def denied(repository: Repository, upstream: Repository) -> RegistryError:
    """The refusal, with the grant that would help."""
    agent = registry_agent(repository.project)
    return RegistryError(
        "DENIED",
        f"{repository.path} stands before a repository that {agent.email} may not read: "
        "grant it roles/artifactregistry.reader there",
    )
