"""`hako auth print-access-token|configure-docker|login|logout`: tokens of this installation, and who we are to registries."""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from hakobune.cli import configure_docker, docker_helper
from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    token = verbs.add_parser(
        "print-access-token",
        help="print a token for `Authorization: Bearer …` (gcloud, curl, the official clients), "
        "or for user oauth2accesstoken of the registry",
    )
    who = token.add_mutually_exclusive_group()
    who.add_argument("--account", metavar="EMAIL", help="of a user, not of the owner")
    who.add_argument(
        "--impersonate-service-account", metavar="EMAIL", help="of a service account or an agent"
    )
    token.add_argument(
        "--lifetime",
        default="1h",
        metavar="TIME",
        help="how long it is valid: 90s, 30m, 12h at most (default: 1h)",
    )
    token.set_defaults(run=_print_access_token)

    configure_docker.configure(
        verbs.add_parser(
            "configure-docker",
            help="docker, podman and skopeo log in to this registry by themselves",
        )
    )
    docker_helper.configure(
        verbs.add_parser("docker-helper", help="docker's credential helper protocol")
    )

    login = verbs.add_parser(
        "login", help="keep a user and password for a registry, as docker does"
    )
    login.add_argument("registry", nargs="?", default="docker.io", metavar="HOST[:PORT]")
    login.add_argument("-u", "--username", metavar="USER")
    login.add_argument(
        "--password-stdin", action="store_true", help="read the password, or a token, from stdin"
    )
    login.set_defaults(run=_login)

    logout = verbs.add_parser("logout", help="forget them")
    logout.add_argument("registry", nargs="?", default="docker.io", metavar="HOST[:PORT]")
    logout.set_defaults(run=_logout)


def _print_access_token(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.client import Client

    client = Client(context.settings.api_socket, version="v1")
    body = {"lifetime": f"{seconds_of(arguments.lifetime)}s"}
    if arguments.account:
        name = f"users/{arguments.account}"
    elif arguments.impersonate_service_account:
        name = f"projects/-/serviceAccounts/{arguments.impersonate_service_account}"
    else:
        name = "owner"
    print(client.post(f"{name}:generateAccessToken", body)["accessToken"], file=context.out)
    return 0


def seconds_of(text: str) -> int:
    """`90s`, `30m`, `12h` or a number of seconds.

    Raises:
        UsageError: it is no such time.
    """
    number, unit = (text[:-1], text[-1:]) if text[-1:] in ("s", "m", "h") else (text, "s")
    if not number.isdecimal():
        raise UsageError(f"{text!r} is no time", fix="90s, 30m or 12h")
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def _login(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.access import Access
    from hakobune.distribution.credentials import Credentials, docker_config
    from hakobune.distribution.login import check_login, keep_login

    host = _host(arguments.registry)
    user, password = _ask(arguments, host)
    credentials = Credentials(user=user, password=password)
    access = Access.read(context.env, context.settings.home, uid=os.geteuid())
    check_login(access, host, credentials)
    where = keep_login(docker_config(context.env), context.env, host, credentials)
    print(f"logged in to {host} as {user!r}, kept in {where}", file=context.err)
    return 0


def _logout(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.distribution.credentials import docker_config
    from hakobune.distribution.login import forget_login

    host = _host(arguments.registry)
    path = docker_config(context.env)
    if not forget_login(path, context.env, host):
        raise HakoError(f"nobody is logged in to {host}", why=f"{path} does not name it")
    print(f"logged out of {host}", file=context.err)
    return 0


def _host(text: str) -> str:
    """The registry alone, however it was written."""
    from hakobune.oci.reference import Reference

    host = text.removeprefix("https://").removeprefix("http://").rstrip("/")
    reference = Reference.parse(f"{host}/x") if host and "/" not in host else None
    if reference is None or reference.registry != host:
        raise UsageError(f"{text!r} is no registry", fix="HOST, or HOST:PORT")
    return host


def _ask(arguments: argparse.Namespace, host: str) -> tuple[str, str]:
    """User and password; a password is never taken from the command line, where every process sees it."""
    interactive = sys.stdin.isatty()
    if not (arguments.username or interactive) or not (arguments.password_stdin or interactive):
        raise UsageError(
            f"hako auth login {host}: who?",
            why="nobody can be asked here",
            fix=f"… | hako auth login {host} --username USER --password-stdin",
        )
    user = arguments.username or input(f"user for {host}: ")
    if arguments.password_stdin:
        return user, sys.stdin.read().rstrip("\r\n")
    return user, getpass.getpass(f"password or token of {user}: ")
