"""`--project` and `--region`, as gcloud has them: where a service is."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass

from hakobune.errors import UsageError

PROJECT = "hako"
REGION = "local"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Place:
    """A project and a region of it; services in different places do not know each other."""

    project: str = PROJECT
    region: str = REGION

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Place:
        """What the options of `add_place` say.

        Raises:
            UsageError: one is no name.
        """
        for flag, text in (("--project", arguments.project), ("--region", arguments.region)):
            if not _NAME.fullmatch(text):
                raise UsageError(
                    f"{flag} {text!r} is no name",
                    why="small letters, digits and hyphens, beginning with a letter",
                )
        return cls(arguments.project, arguments.region)

    @classmethod
    def of_name(cls, name: str) -> Place:
        """Where the service (or whatever is below it) of that full name is."""
        _, project, _, region, *_ = name.split("/")
        return cls(project, region)

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    @property
    def flags(self) -> str:
        """The options that lead here, with a space before each; empty for the default place."""
        project = f" --project {self.project}" if self.project != PROJECT else ""
        return project + (f" --region {self.region}" if self.region != REGION else "")

    def service(self, text: str) -> str:
        """The full name of a service given short (`shop`) or in full."""
        return text if text.startswith("projects/") else f"{self.parent}/services/{text}"

    def app_image(self, service: str) -> str:
        """The name under which a service's builds are kept."""
        folder = "apps" if self.region == REGION else f"apps-{self.region}"
        return f"{self.project}/{folder}/{service}"


def add_place(parser: argparse.ArgumentParser) -> None:
    """Declare `--project` and `--region`."""
    parser.add_argument(
        "--project",
        default=PROJECT,
        metavar="ID",
        help=f"the service's project (default: {PROJECT})",
    )
    parser.add_argument(
        "--region", default=REGION, metavar="NAME", help=f"the service's region (default: {REGION})"
    )
