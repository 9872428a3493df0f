"""Artifact Registry API v1 over REST: every method with its path and the permission it needs, in one table.

Beside it the part of Secret Manager that repositories name, and quotas, which Google keeps elsewhere. What belongs to other formats than DOCKER is refused in
words.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from hakobune.api.artifacts_attachments import Attachments
from hakobune.api.artifacts_context import Call, JsonObject, Registry, read_body
from hakobune.api.artifacts_download import Downloads
from hakobune.api.artifacts_images import Files, Images
from hakobune.api.artifacts_names import RepositoryName
from hakobune.api.artifacts_packages import Packages, Versions
from hakobune.api.artifacts_policies import Policies
from hakobune.api.artifacts_projects import Projects
from hakobune.api.artifacts_quotas import Quotas
from hakobune.api.artifacts_repositories import ANY_LOCATION, Repositories
from hakobune.api.artifacts_secrets import Secrets
from hakobune.api.artifacts_tags import Tags
from hakobune.api.caller import ANYBODY, OWNER_ONLY, caller_of, require
from hakobune.api.resource_paths import ResourceRoute
from hakobune.serving.errors import InvalidArgumentError, ServingError

Method = Callable[[Call], Awaitable[JsonObject | Response]]

_P = "/v1/projects/{project}"
_L = _P + "/locations/{location}"
_R = _L + "/repositories/{repository}"
_PACKAGE = _R + "/packages/{package}"
_VERSION = _PACKAGE + "/versions/{version}"
_TAG = _PACKAGE + "/tags/{tag}"
_FILE = _R + "/files/{file**}"
_SECRET = _P + "/secrets/{secret}"
_SECRET_VERSION = _SECRET + "/versions/{version}"


class UnimplementedError(ServingError):
    """The method exists at Google's and not here."""

    status = "UNIMPLEMENTED"


def artifacts_v1_routes(registry: Registry) -> list[BaseRoute]:
    """The routes of the API, most particular first."""
    repositories, packages, versions = Repositories(registry), Packages(registry), Versions(registry)  # fmt: skip
    tags, images, files = Tags(registry), Images(registry), Files(registry)
    attachments, policies, projects = Attachments(registry), Policies(registry), Projects(registry)
    secrets, quotas, downloads = Secrets(registry), Quotas(registry), Downloads(registry)

    table: tuple[tuple[str, str, str, Method], ...] = (
        ("GET", _R + ":getIamPolicy", "repositories.getIamPolicy", policies.get),
        ("POST", _R + ":setIamPolicy", "repositories.setIamPolicy", policies.set),
        ("POST", _R + ":testIamPermissions", ANYBODY, policies.test),
        ("POST", _R + ":exportArtifact", "repositories.downloadArtifacts", _no_export),
        ("POST", _R + "/aptArtifacts:import", "repositories.uploadArtifacts", _other_format),
        ("POST", _R + "/yumArtifacts:import", "repositories.uploadArtifacts", _other_format),
        ("POST", _L + "/repositories", "repositories.create", repositories.create),
        ("GET", _L + "/repositories", "repositories.list", repositories.list),
        ("GET", _R, "repositories.get", repositories.get),
        ("PATCH", _R, "repositories.update", repositories.update),
        ("DELETE", _R, "repositories.delete", repositories.delete),
        ("GET", _R + "/dockerImages", "dockerimages.list", images.list),
        ("GET", _R + "/dockerImages/{image**}", "dockerimages.get", images.get),
        ("GET", _R + "/packages", "packages.list", packages.list),
        ("POST", _PACKAGE + "/versions:batchDelete", "versions.delete", versions.batch_delete),
        ("GET", _PACKAGE + "/versions", "versions.list", versions.list),
        ("GET", _VERSION, "versions.get", versions.get),
        ("PATCH", _VERSION, "versions.update", versions.update),
        ("DELETE", _VERSION, "versions.delete", versions.delete),
        ("GET", _PACKAGE + "/tags", "tags.list", tags.list),
        ("POST", _PACKAGE + "/tags", "tags.create", tags.create),
        ("GET", _PACKAGE + "/tagHistory", "tags.list", tags.history),
        ("GET", _TAG, "tags.get", tags.get),
        ("PATCH", _TAG, "tags.update", tags.update),
        ("DELETE", _TAG, "tags.delete", tags.delete),
        ("GET", _PACKAGE, "packages.get", packages.get),
        ("PATCH", _PACKAGE, "packages.update", packages.update),
        ("DELETE", _PACKAGE, "packages.delete", packages.delete),
        ("GET", _R + "/files", "files.list", files.list),
        ("GET", _FILE + ":download", "files.download", downloads.download),
        ("GET", _FILE, "files.get", files.get),
        ("PATCH", _FILE, "files.update", files.update),
        ("DELETE", _FILE, "files.delete", files.delete),
        ("GET", _R + "/attachments", "attachments.list", attachments.list),
        ("POST", _R + "/attachments", "attachments.create", attachments.create),
        ("GET", _R + "/attachments/{attachment**}", "attachments.get", attachments.get),
        ("DELETE", _R + "/attachments/{attachment**}", "attachments.delete", attachments.delete),
        ("GET", _R + "/mavenArtifacts", "repositories.get", _other_format),
        ("GET", _R + "/mavenArtifacts/{artifact**}", "repositories.get", _other_format),
        ("GET", _R + "/npmPackages", "repositories.get", _other_format),
        ("GET", _R + "/npmPackages/{artifact**}", "repositories.get", _other_format),
        ("GET", _R + "/pythonPackages", "repositories.get", _other_format),
        ("GET", _R + "/pythonPackages/{artifact**}", "repositories.get", _other_format),
        ("GET", _R + "/rules", "rules.list", _no_rules),
        ("POST", _R + "/rules", "rules.create", _no_rules),
        ("GET", _R + "/rules/{rule}", "rules.get", _no_rules),
        ("PATCH", _R + "/rules/{rule}", "rules.update", _no_rules),
        ("DELETE", _R + "/rules/{rule}", "rules.delete", _no_rules),
        ("GET", _L + "/vpcscConfig", "projectsettings.get", _no_perimeters),
        ("PATCH", _L + "/vpcscConfig", "projectsettings.update", _no_perimeters),
        ("GET", _P + "/locations", "locations.list", projects.list_locations),
        ("GET", _L + "/operations", "locations.get", projects.list_operations),
        ("POST", _L + "/operations/{operation}:cancel", "locations.get", projects.cancel_operation),
        ("GET", _L + "/operations/{operation}", ANYBODY, projects.get_operation),
        ("DELETE", _L + "/operations/{operation}", "repositories.delete", projects.delete_operation),
        ("GET", _L, "locations.get", projects.get_location),
        ("GET", _P + "/projectSettings", "projectsettings.get", projects.get_settings),
        ("PATCH", _P + "/projectSettings", "projectsettings.update", projects.update_settings),
        ("GET", _P + "/storageQuotas", "repositories.list", quotas.list),
        ("PATCH", _P + "/storageQuota", OWNER_ONLY, quotas.set_project),
        ("PATCH", _R + "/storageQuota", OWNER_ONLY, quotas.set_repository),
        ("GET", _P + "/secrets", OWNER_ONLY, secrets.list),
        ("POST", _P + "/secrets", OWNER_ONLY, secrets.create),
        ("POST", _SECRET + ":addVersion", OWNER_ONLY, secrets.add_version),
        ("GET", _SECRET + "/versions", OWNER_ONLY, secrets.list_versions),
        ("GET", _SECRET_VERSION + ":access", OWNER_ONLY, secrets.access_version),
        ("POST", _SECRET_VERSION + ":destroy", OWNER_ONLY, secrets.destroy_version),
        ("GET", _SECRET_VERSION, OWNER_ONLY, secrets.get_version),
        ("GET", _SECRET, OWNER_ONLY, secrets.get),
        ("DELETE", _SECRET, OWNER_ONLY, secrets.delete),
    )  # fmt: skip
    return [
        ResourceRoute(method, template, _endpoint(registry, permission, handle))
        for method, template, permission, handle in table
    ]


def _endpoint(
    registry: Registry, permission: str, handle: Method
) -> Callable[[Request], Awaitable[Response]]:
    full = permission if permission in (ANYBODY, OWNER_ONLY) else f"artifactregistry.{permission}"

    async def endpoint(request: Request) -> Response:
        ids = request.path_params
        caller = caller_of(request)
        await require(registry.iam, caller, full, _resource(ids))
        call = Call(ids=ids, query=request.query_params, body=await read_body(request), caller=caller)  # fmt: skip
        answer = await handle(call)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    endpoint.permission = full  # type: ignore[attr-defined] # a test looks whether every route has one
    return endpoint


def _resource(ids: Mapping[str, str]) -> str:
    """What the permission is needed on: the repository, or else the project.

    Raises:
        InvalidArgumentError: an id holds a slash, and would name another resource, or a character that no name has.
    """
    for kind, text in ids.items():
        if not text.isprintable():
            raise InvalidArgumentError(f"{text!r} is no id", field=kind)
    for kind in ("project", "location", "repository", "secret"):
        if "/" in ids.get(kind, ""):
            raise InvalidArgumentError(f"{ids[kind]!r} is no id", field=kind)
    if "repository" in ids and ids["location"] != ANY_LOCATION:
        return str(RepositoryName(ids["project"], ids["location"], ids["repository"]))
    return f"projects/{ids['project']}"


async def _other_format(call: Call) -> JsonObject:
    raise InvalidArgumentError(
        f"the repository {call.repository} has format DOCKER",
        why="the method is for repositories of another format",
        fix="packages, versions and dockerImages list what it holds",
    )


async def _no_export(call: Call) -> JsonObject:
    raise UnimplementedError(
        "artifacts are not exported to a bucket",
        why="there is no storage service here",
        fix=f"hako image copy …/{call.ids['repository']}/IMAGE oci:FOLDER",
    )


async def _no_rules(_: Call) -> JsonObject:
    raise UnimplementedError(
        "repositories have no download rules here",
        fix="grant roles/artifactregistry.reader to those who may download",
    )


async def _no_perimeters(_: Call) -> JsonObject:
    raise UnimplementedError("there are no service perimeters here")
