"""Deploying from this installation's registry: in another project's repository, the service's agent needs the right to read.

As in Google's cloud: it is the agent of the service's project who pulls, not who deploys. A repository of the same
project may be deployed from without a grant, and the owner of the installation deploys from all of them.
"""

from __future__ import annotations

import asyncio

from hakobune.api.caller import current_caller
from hakobune.api.errors import PermissionDeniedError
from hakobune.api.registry_state import RegistryState
from hakobune.distribution.own_registry import OwnRegistry
from hakobune.iam.principal import OWNER, project_number, serving_agent
from hakobune.iam.roles import PULL
from hakobune.oci.reference import Reference


class ImageAccess:
    """Fits `serving.images.ImageGate`."""

    def __init__(self, own: OwnRegistry, state: RegistryState) -> None:
        self._own = own
        self._state = state

    async def check(self, project: str, reference: Reference) -> None:
        """See `ImageGate`.

        Raises:
            PermissionDeniedError: the agent may not read the repository, or there is none; who is asked for tells not which.
        """
        owner, _, rest = reference.repository.partition("/")
        if owner == project or current_caller() == OWNER:
            return
        if not await asyncio.to_thread(self._own.means, reference):
            return
        name = rest.partition("/")[0]
        repository = await self._state.metadata.find_repository(owner, name)
        agent = serving_agent(project)
        if repository is not None:
            verdict = await self._state.iam.store.check(agent, PULL, repository.resource)
            if verdict.allowed:
                return
        location = "local" if repository is None else repository.location
        raise PermissionDeniedError(
            f"Google Cloud Run Service Agent {agent.email} must have permission to read the image, {reference}. "
            "Ensure that the provided container image URL is correct and that the above account has permission to "
            f"access the image. Note that the image is from project [{owner}], which is not the same as this project "
            f"[{project}] (number {project_number(project)}). Permission must be granted to the Google Cloud Run "
            "Service Agent from this project.",
            fix=f"hako artifacts repositories add-iam-policy-binding {name} --project={owner} --location={location} "
            f"--member=serviceAccount:{agent.email} --role=roles/artifactregistry.reader",
        )
