"""`hako projects describe|get-iam-policy|set-iam-policy|add-iam-policy-binding|remove-iam-policy-binding`."""

from __future__ import annotations

import argparse

from hakobune.cli.client import Client
from hakobune.cli.iam_policy import add_policy_verbs
from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    describe = verbs.add_parser("describe", help="a project's id and number")
    _configure_name(describe)
    add_format(describe)
    describe.set_defaults(run=_describe)
    add_policy_verbs(
        verbs, noun="a project", configure=_configure_name, resource_of=lambda a, _: _resource(a)
    )


def _configure_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="PROJECT")


def _resource(arguments: argparse.Namespace) -> str:
    return f"projects/{arguments.project}"


def _describe(arguments: argparse.Namespace, context: Context) -> int:
    project = Client(context.settings.api_socket, version="v1").get(_resource(arguments))
    if arguments.format != "table":
        print_document(project, arguments.format, context.out)
        return 0
    number = project["projectNumber"]
    for name, value in (
        ("project", project["projectId"]),
        ("number", number),
        (
            "agent of its services",
            f"service-{number}@serverless-robot-prod.iam.gserviceaccount.com",
        ),
        (
            "agent of its registry",
            f"service-{number}@gcp-sa-artifactregistry.iam.gserviceaccount.com",
        ),
    ):
        print(f"{name:<22} {value}", file=context.out)
    return 0
