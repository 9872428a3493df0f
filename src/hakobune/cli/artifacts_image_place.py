"""What a typed image name leads to: the repository that holds it, its package, and its digest."""

from __future__ import annotations

from hakobune.cli.artifacts_client import ArtifactsClient
from hakobune.cli.artifacts_names import ImagePath, package_name, parse_image_path
from hakobune.cli.main import Context
from hakobune.distribution.own_registry import known_hosts
from hakobune.errors import UsageError


class ImagePlace:
    """A path that was typed, and the repository that it leads to."""

    def __init__(self, context: Context, text: str) -> None:
        self.client = ArtifactsClient(context)
        self.path: ImagePath = parse_image_path(text, hosts=known_hosts(context.settings))
        self.repository = self.client.find_repository(self.path.project, self.path.repository)

    @property
    def package(self) -> str:
        if not self.path.image:
            raise UsageError(
                f"{self.path.path} names a repository", fix=f"{self.path.path}/IMAGE[:TAG|@DIGEST]"
            )
        return package_name(self.repository, self.path.image)

    def digest(self) -> str:
        """The digest that is named, by itself or by a tag (`latest` without one)."""
        if self.path.digest:
            return self.path.digest
        tag = self.path.tag or "latest"
        found = self.client.get(f"{self.package}/tags/{tag}")
        return str(found["version"]).rpartition("/")[2]

    def text(self, image: str) -> str:
        """HOST/PROJECT/REPOSITORY/IMAGE."""
        return f"{self.path.host}/{self.path.project}/{self.path.repository}/{image}"
