"""`hako artifacts …`: repositories and what they hold, over Artifact Registry's API, in gcloud's words."""

from __future__ import annotations

import argparse

from hakobune.cli import (
    artifacts_attachments,
    artifacts_content,
    artifacts_docker,
    artifacts_places,
    artifacts_quotas,
    artifacts_repositories,
)

_GROUPS = (
    ("repositories", "make, change and delete repositories; who may; what is cleaned up", artifacts_repositories.configure),
    ("docker", "images and tags by the names that docker gives them", artifacts_docker.configure),
    ("packages", "images by name", artifacts_content.configure_packages),
    ("versions", "the digests of a package", artifacts_content.configure_versions),
    ("tags", "the tags of a package", artifacts_content.configure_tags),
    ("files", "the blobs of a repository", artifacts_content.configure_files),
    ("attachments", "what is attached to images: signatures, SBOMs", artifacts_attachments.configure),
    ("quotas", "how many bytes a project or a repository may hold", artifacts_quotas.configure),
    ("locations", "where repositories are", artifacts_places.configure_locations),
    ("operations", "what was done", artifacts_places.configure_operations),
)  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    groups = parser.add_subparsers(required=True, metavar="GROUP")
    for name, what, configure_group in _GROUPS:
        configure_group(groups.add_parser(name, help=what))
