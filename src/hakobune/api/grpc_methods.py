"""Which REST call each gRPC method of Artifact Registry is (its google.api.http binding), in one table.

A contract test compares it with the bindings in Google's own client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class GrpcMethod:
    """One method.

    Attributes:
        path: with the request's fields that stand in it, `/v1/{parent}/repositories`.
        body: the field that is the body; `*` for all that is not in the path, empty for none.
        request, response: names of messages, in the package of the service unless they are full names.
    """

    verb: str
    path: str
    body: str
    request: str
    response: str


_ARTIFACT_REGISTRY = """
CreateRepository       POST   {parent}/repositories            repository        Operation
ListRepositories       GET    {parent}/repositories            -                 ListRepositoriesResponse
GetRepository          GET    {name}                           -                 Repository
UpdateRepository       PATCH  {repository.name}                repository        Repository
DeleteRepository       DELETE {name}                           -                 Operation
ListDockerImages       GET    {parent}/dockerImages            -                 ListDockerImagesResponse
GetDockerImage         GET    {name}                           -                 DockerImage
ListMavenArtifacts     GET    {parent}/mavenArtifacts          -                 ListMavenArtifactsResponse
GetMavenArtifact       GET    {name}                           -                 MavenArtifact
ListNpmPackages        GET    {parent}/npmPackages             -                 ListNpmPackagesResponse
GetNpmPackage          GET    {name}                           -                 NpmPackage
ListPythonPackages     GET    {parent}/pythonPackages          -                 ListPythonPackagesResponse
GetPythonPackage       GET    {name}                           -                 PythonPackage
ImportAptArtifacts     POST   {parent}/aptArtifacts:import     *                 Operation
ImportYumArtifacts     POST   {parent}/yumArtifacts:import     *                 Operation
ListPackages           GET    {parent}/packages                -                 ListPackagesResponse
GetPackage             GET    {name}                           -                 Package
UpdatePackage          PATCH  {package.name}                   package           Package
DeletePackage          DELETE {name}                           -                 Operation
ListVersions           GET    {parent}/versions                -                 ListVersionsResponse
GetVersion             GET    {name}                           -                 Version
UpdateVersion          PATCH  {version.name}                   version           Version
DeleteVersion          DELETE {name}                           -                 Operation
BatchDeleteVersions    POST   {parent}/versions:batchDelete    *                 Operation
ListFiles              GET    {parent}/files                   -                 ListFilesResponse
GetFile                GET    {name}                           -                 File
UpdateFile             PATCH  {file.name}                      file              File
DeleteFile             DELETE {name}                           -                 Operation
ListTags               GET    {parent}/tags                    -                 ListTagsResponse
GetTag                 GET    {name}                           -                 Tag
CreateTag              POST   {parent}/tags                    tag               Tag
UpdateTag              PATCH  {tag.name}                       tag               Tag
DeleteTag              DELETE {name}                           -                 google.protobuf.Empty
CreateRule             POST   {parent}/rules                   rule              Rule
ListRules              GET    {parent}/rules                   -                 ListRulesResponse
GetRule                GET    {name}                           -                 Rule
UpdateRule             PATCH  {rule.name}                      rule              Rule
DeleteRule             DELETE {name}                           -                 google.protobuf.Empty
SetIamPolicy           POST   {resource}:setIamPolicy          *                 google.iam.v1.Policy
GetIamPolicy           GET    {resource}:getIamPolicy          -                 google.iam.v1.Policy
TestIamPermissions     POST   {resource}:testIamPermissions    *                 google.iam.v1.TestIamPermissionsResponse
GetProjectSettings     GET    {name}                           -                 ProjectSettings
UpdateProjectSettings  PATCH  {project_settings.name}          project_settings  ProjectSettings
GetVPCSCConfig         GET    {name}                           -                 VPCSCConfig
UpdateVPCSCConfig      PATCH  {vpcsc_config.name}              vpcsc_config      VPCSCConfig
ExportArtifact         POST   {repository}:exportArtifact      *                 Operation
ListAttachments        GET    {parent}/attachments             -                 ListAttachmentsResponse
GetAttachment          GET    {name}                           -                 Attachment
CreateAttachment       POST   {parent}/attachments             attachment        Operation
DeleteAttachment       DELETE {name}                           -                 Operation
"""
_LOCATIONS = """
ListLocations          GET    {name}/locations                 -                 ListLocationsResponse
GetLocation            GET    {name}                           -                 Location
"""
_OPERATIONS = """
ListOperations         GET    {name}/operations                -                 ListOperationsResponse
GetOperation           GET    {name}                           -                 Operation
DeleteOperation        DELETE {name}                           -                 google.protobuf.Empty
CancelOperation        POST   {name}:cancel                    *                 google.protobuf.Empty
"""
_OPERATION = "google.longrunning.Operation"
ARTIFACT_REGISTRY = "google.devtools.artifactregistry.v1"


def _read() -> Mapping[str, GrpcMethod]:
    methods: dict[str, GrpcMethod] = {}
    for package, service, table in (
        (ARTIFACT_REGISTRY, "ArtifactRegistry", _ARTIFACT_REGISTRY),
        ("google.cloud.location", "Locations", _LOCATIONS),
        ("google.longrunning", "Operations", _OPERATIONS),
    ):
        for line in table.strip().splitlines():
            name, verb, path, body, response = line.split()
            if response == "Operation":
                response = _OPERATION
            iam = response.startswith("google.iam")
            methods[f"/{package}.{service}/{name}"] = GrpcMethod(
                verb=verb,
                path=f"/v1/{path}",
                body="" if body == "-" else body,
                request=f"{'google.iam.v1' if iam else package}.{name}Request",
                response=response if "." in response else f"{package}.{response}",
            )
    return MappingProxyType(methods)


METHODS = _read()
