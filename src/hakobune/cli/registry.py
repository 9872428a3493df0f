"""`hako registry serve|backup|restore|verify|collect`: the registry alone, and its content as a whole.

What works on the registry's database runs in a process of its own, which prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from hakobune.cli.main import Context
from hakobune.cli.output import add_format, print_document
from hakobune.cli.table import print_table
from hakobune.cli.terminal import human_size
from hakobune.errors import HakoError
from hakobune.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    serve = verbs.add_parser(
        "serve",
        help="run the registry and its API alone, without containers, as any user, until a signal ends it",
    )
    serve.add_argument(
        "--listen", metavar="HOST:PORT", help="(default: HAKO_REGISTRY_LISTEN, localhost:18180)"
    )
    serve.add_argument(
        "--tls-cert", metavar="FILE", help="certificate chain (PEM): HTTPS instead of HTTP"
    )
    serve.add_argument(
        "--tls-key", metavar="FILE", help="its key (default: in the certificate's file)"
    )
    serve.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    serve.set_defaults(run=_serve)

    backup = verbs.add_parser(
        "backup", help="copy database, blobs and keys to a new folder, while pushes go on"
    )
    backup.add_argument("target", metavar="FOLDER")
    backup.add_argument(
        "--copy",
        action="store_true",
        help="copy blobs; by default they are hard links where the folder is on the same disk",
    )
    add_format(backup)
    backup.set_defaults(run=_backup)

    restore = verbs.add_parser(
        "restore", help="check a backup, and bring it into an empty HAKO_HOME"
    )
    restore.add_argument("backup", metavar="FOLDER")
    restore.add_argument("--check", action="store_true", help="only read and compare every byte")
    add_format(restore)
    restore.set_defaults(run=_restore)

    verify = verbs.add_parser(
        "verify",
        help="read every blob and compare it with its digest; what is damaged goes to quarantine, "
        "and is fetched again where it came from an upstream",
    )
    add_format(verify)
    verify.set_defaults(run=_verify)

    collect = verbs.add_parser(
        "collect", help="remove what nothing names, now (the registry does it by itself, too)"
    )
    collect.add_argument("--dry-run", action="store_true", help="only list what would go, and why")
    add_format(collect)
    collect.set_defaults(run=_collect)


def _serve(arguments: argparse.Namespace, context: Context) -> int:
    from hakobune.cli.registry_serve import serve

    return serve(
        context,
        listen=arguments.listen,
        certificate=arguments.tls_cert,
        key=arguments.tls_key,
        workers=arguments.workers,
    )


def _backup(arguments: argparse.Namespace, context: Context) -> int:
    target = os.path.abspath(arguments.target)
    found = run_apart(
        context, "hakobune.registry.backup", target, *(["copy"] if arguments.copy else [])
    )
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    print(target, file=context.out)
    linked, size = found["linked"], human_size(found["size_bytes"])
    print(f"{found['blobs']} blobs, {size}{_how(linked, found['blobs'])}", file=context.err)
    return 0


def _how(linked: int, blobs: int) -> str:
    if not linked:
        return ""
    which = "they" if linked == blobs else f"{linked} of them"
    return f"; {which} are hard links to the registry's files: copy the folder to another disk"


def _restore(arguments: argparse.Namespace, context: Context) -> int:
    backup = os.path.abspath(arguments.backup)
    check = ["check"] if arguments.check else []
    found = run_apart(context, "hakobune.registry.restore", backup, *check)
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
        return 0
    what = f"{found['blobs']} blobs, {human_size(found['size_bytes'])}, all as their digests say"
    made = f"made {found['record']['created']}"
    where = "" if arguments.check else f"; restored into {context.settings.home}"
    print(f"{what}; {made}{where}", file=context.err)
    return 0


def _verify(arguments: argparse.Namespace, context: Context) -> int:
    found = run_apart(context, "hakobune.registry.maintain", "verify")
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
    for problem in found["problems"] if arguments.format == "table" else ():
        where = "in quarantine: " if problem["quarantined"] else ""
        what = "repaired" if problem["repaired"] else f"{where}push it again"
        print(f"{problem['digest']}: {problem['what']} ({what})", file=context.out)
    left = sum(not problem["repaired"] for problem in found["problems"])
    size = human_size(found["bytes"])
    print(f"{found['blobs']} blobs, {size} read; {left or 'nothing'} damaged", file=context.err)
    return 1 if left else 0


def _collect(arguments: argparse.Namespace, context: Context) -> int:
    verb = "plan" if arguments.dry_run else "collect"
    found = run_apart(context, "hakobune.registry.maintain", verb)
    if arguments.format != "table":
        print_document(found, arguments.format, context.out)
    elif arguments.dry_run:
        rows = [
            (item["digest"][:19], human_size(item["size"]), item["step"], item["reason"])
            for item in found["garbage"]
        ]
        print_table(("BLOB", "SIZE", "NEXT", "WHY"), rows, context.out)
    else:
        print(
            f"removed {found['removed']} blobs, {human_size(found['removed_bytes'])}; "
            f"{found['doomed']} more wait in case somebody still needs them",
            file=context.err,
        )
    return 0


def run_apart(context: Context, module: str, *arguments: str) -> Any:
    """Run a module of the registry in a process of its own; what it prints.

    Raises:
        HakoError: the one that it printed, or that it died.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-m", module, *arguments],
        env=environment(context.settings, context.env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise HakoError(
            f"{module} has ended without an answer", why=f"exit code {done.returncode}"
        ) from error
    if "what" in found:
        raise HakoError(found["what"], why=found["why"], fix=found["fix"])
    return found


def environment(settings: Settings, env: Any) -> dict[str, str]:
    """What a process of this installation's registry is told."""
    return {**env, "HAKO_HOME": str(settings.home)}
