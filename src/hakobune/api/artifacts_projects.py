"""Artifact Registry's methods on places: locations, operations, and a project's settings."""

from __future__ import annotations

from hakobune.api.artifacts_context import Call, JsonObject, Registry, listing
from hakobune.api.artifacts_documents import ProjectSettings, RedirectionState
from hakobune.api.artifacts_listing import cut_page
from hakobune.api.artifacts_mask import apply_mask
from hakobune.api.artifacts_names import check_place, location_name
from hakobune.serving.document import read_document, write_document
from hakobune.serving.errors import InvalidArgumentError, NotFoundError

DEFAULT_LOCATION = "local"


class Projects:
    """One method an RPC."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list_locations(self, call: Call) -> JsonObject:
        """Where the project has repositories, and the usual one. Every other location may be used, too."""
        project = call.ids["project"]
        found = await self._registry.metadata.list_repositories(project)
        names = sorted({DEFAULT_LOCATION, *(repository.location for repository in found)})
        page = cut_page(
            [_location(project, name) for name in names],
            call.list_request,
            record=lambda item: item,
            filters=("name",),
            orders=(),
        )
        return listing("locations", list(page.items), page.next_token)

    async def get_location(self, call: Call) -> JsonObject:
        check_place(call.ids["project"], call.ids["location"])
        return _location(call.ids["project"], call.ids["location"])

    async def list_operations(self, call: Call) -> JsonObject:
        """Newest first."""
        found = await self._registry.store.list_operations(call.parent)
        page = cut_page(
            list(enumerate(found)),
            call.list_request,
            record=lambda item: {"name": f"{item[0]:08}"},
            filters=(),
            orders=(),
        )
        return listing("operations", [item for _, item in page.items], page.next_token)

    async def get_operation(self, call: Call) -> JsonObject:
        found = await self._registry.store.find_operation(_operation(call))
        if found is None:
            raise NotFoundError(
                f"there is no operation {call.ids['operation']!r}",
                why="nobody began it, or it ended long ago",
            )
        return found

    async def cancel_operation(self, call: Call) -> JsonObject:
        """Operations are done when they are answered: there is nothing left to cancel."""
        await self.get_operation(call)
        return {}

    async def delete_operation(self, call: Call) -> JsonObject:
        await self.get_operation(call)
        await self._registry.store.drop_operation(_operation(call))
        return {}

    async def get_settings(self, call: Call) -> JsonObject:
        return write_document(await self._settings(call.ids["project"]))

    async def update_settings(self, call: Call) -> JsonObject:
        project = call.ids["project"]
        changed = apply_mask(
            await self._settings(project),
            read_document(call.body, ProjectSettings),
            call.parameter("updateMask"),
            settable=("legacyRedirectionState", "pullPercent"),
            fixed=("name",),
        )
        if not 0 <= changed.pull_percent <= 100:
            raise InvalidArgumentError("a percentage is 0 to 100", field="pullPercent")
        await self._registry.store.set_project_settings(project, write_document(changed))
        return write_document(changed)

    async def _settings(self, project: str) -> ProjectSettings:
        stored = await self._registry.store.project_settings(project)
        return read_document(
            {
                "legacyRedirectionState": RedirectionState.REDIRECTION_FROM_GCR_IO_DISABLED,
                **stored,
                "name": f"projects/{project}/projectSettings",
            },
            ProjectSettings,
        )


def _location(project: str, name: str) -> JsonObject:
    return {"name": location_name(project, name), "locationId": name, "displayName": name}


def _operation(call: Call) -> str:
    return f"{call.parent}/operations/{call.ids['operation']}"
