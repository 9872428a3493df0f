"""`hako auth print-access-token|login|logout`: the token of the API, and who we are to registries."""

from __future__ import annotations

import argparse
import getpass
import os
import sys

from hakobune.cli.main import Context
from hakobune.errors import HakoError, UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    token = verbs.add_parser(
        "print-access-token",
        help="print the token for `Authorization: Bearer …` (gcloud, curl, the official clients)",
    )
    token.set_defaults(run=_print_access_token)

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
    path = context.settings.home / "serving" / "admin.token"
    try:
        print(path.read_text().strip(), file=context.out)
    except FileNotFoundError as error:
        raise HakoError(
            "there is no access token yet",
            why="it is made when the controller starts for the first time",
            fix="hako serve",
        ) from error
    except PermissionError as error:
        raise HakoError(
            "this user may not read the access token",
            why=f"{path} belongs to root",
            fix="sudo hako auth print-access-token",
        ) from error
    return 0


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
