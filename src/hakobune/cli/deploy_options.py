"""The arguments of `hako deploy` that say how a service runs."""

from __future__ import annotations

import argparse

from hakobune.cli.assignments import SHELL_NAME, parse_variables
from hakobune.cli.main import Context
from hakobune.cli.service_document import (
    Wish,
    check_wish,
    parse_cpu,
    parse_memory,
    parse_startup_probe,
    parse_timeout,
)
from hakobune.errors import UsageError


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare them; `wish_from_arguments` reads them."""
    runs = parser.add_argument_group("how it runs (what is not given stays as it was)")
    runs.add_argument(
        "--port",
        type=int,
        metavar="N",
        help="the port the app listens on, given to it as PORT (default: 8080)",
    )
    runs.add_argument(
        "-e",
        "--env",
        action="append",
        default=[],
        metavar="K=V",
        help="set a variable; K alone copies the caller's value",
    )
    runs.add_argument(
        "--remove-env", action="append", default=[], metavar="K", help="take a variable away"
    )
    runs.add_argument("--clear-env", action="store_true", help="take all variables away first")
    runs.add_argument(
        "--command",
        metavar="PROGRAM[,ARG…]",
        help="what is started instead of the image's entrypoint and command; empty: these again",
    )
    runs.add_argument(
        "--args",
        metavar="ARG[,…]",
        help="arguments instead of the image's command; write --args=-v,… where the first begins with a hyphen, "
        "^;^a;b,c where one has a comma; empty: the image's again",
    )
    runs.add_argument("--memory", metavar="SIZE", help="memory limit (default: 512Mi)")
    runs.add_argument("--cpu", metavar="N", help="CPU limit (default: 1)")
    runs.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="requests an instance takes at a time (default: 80)",
    )
    runs.add_argument(
        "--timeout", metavar="TIME", help="how long a request may take (default: 300s)"
    )
    runs.add_argument(
        "--startup-probe",
        metavar="K=V,…",
        help="when an instance counts as ready, as gcloud takes it: tcpSocket.port, httpGet.path, httpGet.port, "
        "initialDelaySeconds, timeoutSeconds, periodSeconds, failureThreshold (default: it listens within 240 s)",
    )
    runs.add_argument(
        "--min-instances", type=int, metavar="N", help="instances kept running (default: 0)"
    )
    runs.add_argument(
        "--max-instances", type=int, metavar="N", help="instances at most (default: 100)"
    )
    runs.add_argument(
        "--allow-unauthenticated",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="everybody who reaches the service may call it; there is nothing else yet",
    )


def wish_from_arguments(arguments: argparse.Namespace, context: Context) -> Wish:
    """What they ask for, checked before anything is done; the image may come later.

    Raises:
        UsageError: one of them cannot be.
    """
    if not arguments.allow_unauthenticated:
        raise UsageError(
            "a service cannot be private yet",
            why="nothing asks callers for a token: roles/run.invoker is not enforced",
            fix="leave --no-allow-unauthenticated out: who reaches HAKO_LISTEN, by default this machine, may call it",
        )
    wish = Wish(
        image=arguments.image or "",
        port=arguments.port,
        env=parse_variables(arguments.env, context.env, "--env", name=SHELL_NAME, must_exist=True),
        removed_env=tuple(arguments.remove_env),
        clear_env=arguments.clear_env,
        command=None if arguments.command is None else parse_list(arguments.command),
        args=None if arguments.args is None else parse_list(arguments.args),
        memory=None if arguments.memory is None else parse_memory(arguments.memory),
        cpu=None if arguments.cpu is None else parse_cpu(arguments.cpu),
        concurrency=arguments.concurrency,
        timeout=None if arguments.timeout is None else parse_timeout(arguments.timeout),
        startup_probe=None
        if arguments.startup_probe is None
        else parse_startup_probe(arguments.startup_probe),
        min_instances=arguments.min_instances,
        max_instances=arguments.max_instances,
    )
    check_wish(wish)
    return wish


def parse_list(text: str) -> tuple[str, ...]:
    """A list as gcloud takes it: by commas, or by what stands between two `^` at its beginning; empty is the empty list (pure)."""
    delimiter = ","
    if text.startswith("^") and "^" in text[2:]:
        delimiter, text = text[1:].split("^", 1)
    return tuple(text.split(delimiter)) if text else ()
