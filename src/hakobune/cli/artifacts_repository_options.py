"""The options that describe a repository, and the document of the API that they make (pure but for files)."""

from __future__ import annotations

import argparse
import re
from typing import Any

from hakobune.cli.client import Document
from hakobune.cli.given_file import read_json
from hakobune.errors import UsageError

MODES = {
    "none": "MODE_UNSPECIFIED",
    "standard-repository": "STANDARD_REPOSITORY",
    "remote-repository": "REMOTE_REPOSITORY",
    "virtual-repository": "VIRTUAL_REPOSITORY",
}

# What Artifact Registry has no field for travels as a label.
_TUNING = (
    ("tag_ttl", "hako-tag-ttl-seconds"),
    ("negative_ttl", "hako-negative-ttl-seconds"),
    ("size_cap", "hako-size-cap-mib"),
    ("serve_deleted", "hako-serve-deleted"),
    ("skip_unavailable", "hako-skip-unavailable"),
)
_OWN = re.compile(r"projects/[^/]+/locations/[^/]+/repositories/[^/]+")


def add_create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repository-format", default="docker", metavar="FORMAT", help="docker, the only one here"
    )
    parser.add_argument(
        "--mode",
        default="none",
        type=str.lower,
        choices=MODES,
        help="standard-repository (the default), remote-repository or virtual-repository",
    )
    parser.add_argument("--labels", default="", metavar="KEY=VALUE,…")
    parser.add_argument(
        "--remote-docker-repo",
        metavar="UPSTREAM",
        help="of a remote repository: docker-hub, https://HOST[/PREFIX], or projects/…/repositories/NAME",
    )
    parser.add_argument("--remote-repo-config-desc", default="", metavar="TEXT", help="of the upstream")  # fmt: skip
    parser.add_argument(
        "--disable-remote-validation",
        action="store_true",
        help="do not ask the upstream whether it is a registry",
    )
    parser.add_argument("--kms-key", default="", help=argparse.SUPPRESS)
    parser.add_argument("--async", action="store_true", help=argparse.SUPPRESS)
    _add_common(parser)


def add_update_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--update-labels", default="", metavar="KEY=VALUE,…")
    parser.add_argument("--remove-labels", default="", metavar="KEY,…")
    parser.add_argument("--clear-labels", action="store_true", help="take all labels away")
    _add_common(parser)


def repository_document(arguments: argparse.Namespace) -> Document:
    """The repository that the options of `create` describe.

    Raises:
        UsageError: an option cannot be understood, or does not fit the mode.
    """
    mode = MODES[arguments.mode]
    document: Document = {"format": arguments.repository_format.upper(), "mode": mode}
    labels = {**parse_labels(arguments.labels, "--labels"), **_tuning_labels(arguments)}
    config = _remote_config(arguments)
    policies = arguments.upstream_policy_file
    if config and mode != "REMOTE_REPOSITORY":
        raise UsageError("an upstream is a remote repository's", fix="--mode=remote-repository")
    if policies and mode != "VIRTUAL_REPOSITORY":
        raise UsageError("upstream policies are a virtual repository's", fix="--mode=virtual-repository")  # fmt: skip
    if mode == "REMOTE_REPOSITORY" and not arguments.remote_docker_repo:
        raise UsageError("a remote repository needs an upstream", fix="--remote-docker-repo=docker-hub")  # fmt: skip
    parts: dict[str, Any] = {
        "description": arguments.description,
        "labels": labels,
        "kmsKeyName": arguments.kms_key,
        "remoteRepositoryConfig": config,
    }
    document.update({name: value for name, value in parts.items() if value})
    if arguments.immutable_tags is not None:
        document["dockerConfig"] = {"immutableTags": arguments.immutable_tags}
    if policies:
        document["virtualRepositoryConfig"] = {"upstreamPolicies": upstream_policies(policies)}
    return document


def repository_changes(
    arguments: argparse.Namespace, current: Document
) -> tuple[Document, list[str]]:
    """What the options of `update` change, and the mask of that.

    Raises:
        UsageError: an option cannot be understood.
    """
    document: Document = {}
    mask: list[str] = []
    if arguments.description is not None:
        document["description"] = arguments.description
        mask.append("description")
    labels = _changed_labels(arguments, current.get("labels", {}))
    if labels != current.get("labels", {}):
        document["labels"] = labels
        mask.append("labels")
    if arguments.immutable_tags is not None:
        document["dockerConfig"] = {"immutableTags": arguments.immutable_tags}
        mask.append("dockerConfig.immutableTags")
    if arguments.upstream_policy_file:
        policies = upstream_policies(arguments.upstream_policy_file)
        document["virtualRepositoryConfig"] = {"upstreamPolicies": policies}
        mask.append("virtualRepositoryConfig")
    if credentials := _credentials(arguments):
        document["remoteRepositoryConfig"] = {"upstreamCredentials": {"usernamePasswordCredentials": credentials}}  # fmt: skip
    prefix = "remoteRepositoryConfig.upstreamCredentials.usernamePasswordCredentials"
    if arguments.remote_username is not None:
        mask.append(f"{prefix}.username")
    if arguments.remote_password_secret_version or arguments.remote_password_file is not None:
        mask.append(f"{prefix}.passwordSecretVersion")
    return document, mask


def parse_labels(text: str, flag: str) -> dict[str, str]:
    """The labels of `KEY=VALUE,…`.

    Raises:
        UsageError: it is no such list.
    """
    labels: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise UsageError(f"{flag} {text!r} is no list of KEY=VALUE", fix=f"{flag}=team=web,env=prod")  # fmt: skip
        labels[key] = value
    return labels


def upstream_policies(file: str) -> list[Document]:
    """The policies of a file, as gcloud has them.

    Raises:
        UsageError: it is no list of objects with id, repository and priority.
    """
    policies = read_json(file)
    wanted = {"id", "repository", "priority"}
    if not isinstance(policies, list) or not all(
        isinstance(policy, dict) and wanted == policy.keys() for policy in policies
    ):
        raise UsageError(
            f"{file} is no list of upstream policies",
            why="each has id, repository and priority; the greatest priority is asked first",
            fix='[{"id": "own", "repository": "projects/hako/locations/local/repositories/own", "priority": 20}]',
        )
    return policies


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--description", metavar="TEXT")
    parser.add_argument(
        "--immutable-tags",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="tags cannot move or vanish, nor what they name",
    )
    parser.add_argument(
        "--upstream-policy-file",
        metavar="FILE",
        help="of a virtual repository: a JSON list of {id, repository, priority}",
    )
    parser.add_argument("--remote-username", metavar="USER", help="at the upstream")
    password = parser.add_mutually_exclusive_group()
    password.add_argument(
        "--remote-password-secret-version",
        metavar="NAME",
        help="projects/P/secrets/S/versions/V that holds the password",
    )
    password.add_argument(
        "--remote-password-file",
        metavar="FILE",
        help="a file with the password, which is then kept as a secret; - is stdin",
    )
    parser.add_argument("--tag-ttl", type=int, metavar="SECONDS", help="for how long a cached tag is not asked for again (default: 3600)")  # fmt: skip
    parser.add_argument("--negative-ttl", type=int, metavar="SECONDS", help="the same for what the upstream lacks (default: 60)")  # fmt: skip
    parser.add_argument("--size-cap", type=int, metavar="MIB", help="the least recently pulled goes above it")  # fmt: skip
    parser.add_argument(
        "--serve-deleted",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="serve from the cache what the upstream no longer has (default: yes)",
    )
    parser.add_argument(
        "--skip-unavailable",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="of a virtual repository: a failing upstream is passed over, instead of failing the pull",
    )


def _remote_config(arguments: argparse.Namespace) -> Document:
    config: Document = {}
    if arguments.remote_docker_repo:
        config.update(_upstream(arguments.remote_docker_repo))
    if arguments.remote_repo_config_desc:
        config["description"] = arguments.remote_repo_config_desc
    if arguments.disable_remote_validation:
        config["disableUpstreamValidation"] = True
    if credentials := _credentials(arguments):
        config["upstreamCredentials"] = {"usernamePasswordCredentials": credentials}
    return config


def _upstream(text: str) -> Document:
    if text.upper().replace("-", "_") == "DOCKER_HUB":
        return {"dockerRepository": {"publicRepository": "DOCKER_HUB"}}
    if _OWN.fullmatch(text):
        return {"commonRepository": {"uri": text}}
    if not re.match(r"https?://", text):
        raise UsageError(
            f"--remote-docker-repo {text!r} is no upstream",
            fix="docker-hub, https://HOST[/PREFIX], or projects/P/locations/L/repositories/R",
        )
    return {"dockerRepository": {"customRepository": {"uri": text}}}


def _credentials(arguments: argparse.Namespace) -> Document:
    given = {
        "username": arguments.remote_username,
        "passwordSecretVersion": arguments.remote_password_secret_version,
    }
    return {name: value for name, value in given.items() if value}


def _tuning_labels(arguments: argparse.Namespace) -> dict[str, str]:
    labels = {}
    for attribute, label in _TUNING:
        value = getattr(arguments, attribute)
        if value is not None:
            labels[label] = str(value).lower()
    return labels


def _changed_labels(arguments: argparse.Namespace, current: dict[str, str]) -> dict[str, str]:
    labels = {} if arguments.clear_labels else dict(current)
    labels.update(parse_labels(arguments.update_labels, "--update-labels"))
    labels.update(_tuning_labels(arguments))
    for key in filter(None, arguments.remove_labels.split(",")):
        labels.pop(key, None)
    return labels
