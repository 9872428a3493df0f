"""`hako container …`: containers by hand, as docker's command line has them.

In the foreground a container belongs to the command and ends with it; `-d` gives it to the supervisor. Here stand the
arguments only: each verb's module is imported when it is used.
"""

from __future__ import annotations

import argparse
import importlib

from hakobune.cli.main import Context, Run
from hakobune.cli.output import add_format
from hakobune.cli.pull_option import add_pull


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_run(verbs.add_parser("run", help="make a container of an image and start it"))
    _add_attach(
        verbs.add_parser("attach", help="stand before a running container: see, type, leave")
    )

    listing = verbs.add_parser("ls", help="the containers that run")
    listing.add_argument("-a", "--all", action="store_true", help="also those that have stopped")
    add_format(listing)
    listing.set_defaults(run=_lazily("container_list", "list_containers"))

    logs = verbs.add_parser("logs", help="what a container has printed")
    logs.add_argument("-f", "--follow", action="store_true", help="and what it prints from now on")
    logs.add_argument("container", metavar="CONTAINER")
    logs.set_defaults(run=_lazily("container_verbs", "logs"))

    stop = verbs.add_parser("stop", help="send the stop signal, then kill")
    stop.add_argument(
        "-t", "--time", type=float, default=10.0, metavar="SECONDS", help="patience (default: 10)"
    )
    _add_containers(stop, "container_verbs", "stop")

    _add_exec(verbs.add_parser("exec", help="run another program in a running container"))

    inspect = verbs.add_parser("inspect", help="all that is known of containers, as JSON")
    _add_containers(inspect, "container_list", "inspect")

    _add_start(
        verbs.add_parser("start", help="start stopped containers again, with what they wrote")
    )

    kill = verbs.add_parser("kill", help="send a signal to the first process of containers")
    kill.add_argument(
        "-s", "--signal", default="KILL", metavar="SIGNAL", help="a name or number (default: KILL)"
    )
    _add_containers(kill, "container_verbs", "kill")

    wait = verbs.add_parser("wait", help="until containers have ended; prints their exit codes")
    _add_containers(wait, "container_wait", "run")

    _add_copy(verbs.add_parser("cp", help="copy files into a container, or out of it"))

    port = verbs.add_parser("port", help="the published ports of a container")
    port.add_argument("container", metavar="CONTAINER")
    port.set_defaults(run=_lazily("container_verbs", "port"))

    top = verbs.add_parser("top", help="the processes of a container, by ps")
    top.add_argument("container", metavar="CONTAINER")
    top.add_argument("options", nargs=argparse.REMAINDER, metavar="PS-OPTIONS …")
    top.set_defaults(run=_lazily("container_top", "run"))

    remove = verbs.add_parser("rm", help="forget stopped containers")
    remove.add_argument("-f", "--force", action="store_true", help="kill running ones first")
    _add_containers(remove, "container_verbs", "remove")


def _add_containers(parser: argparse.ArgumentParser, module: str, function: str) -> None:
    parser.add_argument("containers", nargs="+", metavar="CONTAINER")
    parser.set_defaults(run=_lazily(module, function))


def _add_run(run: argparse.ArgumentParser) -> None:
    run.add_argument("-d", "--detach", action="store_true", help="leave it running, print its id")
    run.add_argument(
        "--rm", action="store_true", help="forget it when it has stopped (always in the foreground)"
    )
    run.add_argument(
        "-i",
        "--interactive",
        action="store_true",
        help="give it standard input (with -d: that of who attaches)",
    )
    run.add_argument("-t", "--tty", action="store_true", help="give it a terminal of its own")
    _add_detach_keys(run, "leave it running")
    run.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    run.add_argument(
        "-v",
        "--volume",
        action="append",
        default=[],
        metavar="HOST:INSIDE[:ro]",
        help="a bind mount",
    )
    run.add_argument("-w", "--workdir", metavar="DIR")
    run.add_argument("-u", "--user", metavar="USER[:GROUP]")
    run.add_argument("--name", help="its id (default: random)")
    run.add_argument("--hostname", metavar="NAME")
    run.add_argument("--entrypoint", metavar="PROGRAM")
    run.add_argument("--memory", "-m", metavar="SIZE", help="512m, 1g, or bytes")
    run.add_argument("--cpus", type=float, metavar="N", help="0.5, 2 …")
    run.add_argument(
        "--network",
        default="bridge",
        metavar="NETWORK",
        help="bridge (egress, the default), none (loopback only), host, or container:NAME",
    )
    run.add_argument(
        "-p",
        "--publish",
        action="append",
        default=[],
        metavar="[ADDRESS:][HOST:]PORT[/udp]",
        help="open a port of this machine that leads into the container (on loopback, without an address)",
    )
    run.add_argument(
        "-P", "--publish-all", action="store_true", help="every port that the image exposes"
    )
    add_pull(run)
    run.add_argument("image", metavar="IMAGE")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND …")
    run.set_defaults(run=_lazily("container_run", "run"))


def _add_attach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-stdin", action="store_true", help="look on, type nothing")
    _add_sig_proxy(parser)
    _add_detach_keys(parser, "leave it running")
    parser.add_argument("container", metavar="CONTAINER")
    parser.set_defaults(run=_lazily("container_attach", "attach"))


def _add_start(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-a", "--attach", action="store_true", help="stand before it, as attach does"
    )
    parser.add_argument("-i", "--interactive", action="store_true", help="and type into it")
    _add_sig_proxy(parser)
    _add_detach_keys(parser, "leave it running")
    _add_containers(parser, "container_attach", "start")


def _add_sig_proxy(parser: argparse.ArgumentParser) -> None:
    """docker's boolean, which is written with `=`; argparse takes it as options of these names."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--sig-proxy",
        "--sig-proxy=true",
        action="store_true",
        dest="sig_proxy",
        default=True,
        help="our signals are the container's, if it has no terminal (the default)",
    )
    group.add_argument(
        "--sig-proxy=false",
        "--no-sig-proxy",
        action="store_false",
        dest="sig_proxy",
        help="our signals are ours",
    )


def _add_detach_keys(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--detach-keys",
        default="",
        metavar="KEYS",
        help=f"what is typed at a terminal to {what} (default: ctrl-p,ctrl-q)",
    )


def _add_copy(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Copy files and folders between this machine and a container, running or stopped, by docker's rules: "
        "FOLDER goes into a folder that is there, FOLDER/. is what is in it; - is a tar stream."
    )
    parser.add_argument(
        "-a",
        "--archive",
        action="store_true",
        help="files keep their owners (else: root's, or ours)",
    )
    parser.add_argument(
        "-L", "--follow-link", action="store_true", help="copy what FROM leads to if it is a link"
    )
    parser.add_argument("source", metavar="FROM", help="[CONTAINER:]PATH or -")
    parser.add_argument("target", metavar="TO", help="[CONTAINER:]PATH or -")
    parser.set_defaults(run=_lazily("container_copy", "run"))


def _add_exec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait; output: its log")
    parser.add_argument("-i", "--interactive", action="store_true", help="give it standard input")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal of its own")
    _add_detach_keys(parser, "leave the program running")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]")
    parser.add_argument("-u", "--user", metavar="USER[:GROUP]")
    parser.add_argument("-w", "--workdir", metavar="DIR")
    parser.add_argument("container", metavar="CONTAINER")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND …")
    parser.set_defaults(run=_lazily("container_exec", "run"))


def _lazily(module: str, function: str) -> Run:
    def run(arguments: argparse.Namespace, context: Context) -> int:
        verb: Run = getattr(importlib.import_module(f"hakobune.cli.{module}"), function)
        return verb(arguments, context)

    return run
