"""`--build-arg`, `--secret`, `--ssh` and `--build-context`, as `hako dockerfile build` and `hako deploy --dockerfile` take them."""

from __future__ import annotations

import argparse


def add_build_inputs(group: argparse._ActionsContainer) -> None:
    """Declare what the caller gives to a Dockerfile."""
    group.add_argument(
        "--build-arg", action="append", default=[], metavar="K[=V]",
        help="the value of an ARG; K alone copies the caller's variable",
    )  # fmt: skip
    group.add_argument(
        "--secret", action="append", default=[], metavar="id=ID[,src=FILE|,env=NAME]",
        help="what RUN --mount=type=secret shows; it is in no layer, log or cache key",
    )  # fmt: skip
    group.add_argument(
        "--build-context", action="append", default=[], metavar="NAME=DIR|URL|docker-image://…|oci-layout://…",
        help="what FROM, COPY --from and RUN --mount read instead of an image or a stage of that name; a URL is a git repository or one file",
    )  # fmt: skip
    group.add_argument(
        "--ssh", action="append", default=[], metavar="ID[=SOCKET|=KEYFILE,…]",
        help="lend an ssh agent to RUN --mount=type=ssh: that of SSH_AUTH_SOCK, that of a socket, or one with these keys",
    )  # fmt: skip
