"""Reads the command line, runs one command, and answers with an exit code.

Only the invoked command's module is imported: `hako` with everything in place must answer in 50 ms.
A command module has `configure(parser)`, which declares its arguments and sets `run` as a default:
`run(arguments, context) -> int`.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

from hakobune import __version__
from hakobune.errors import HakoError, UsageError
from hakobune.settings import SETTINGS, Setting, Settings
from hakobune.support.room import has_room, how_to_make_room, is_full


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a command may know of the world outside its arguments."""

    settings: Settings
    env: Mapping[str, str]
    out: TextIO
    err: TextIO


Run = Callable[[argparse.Namespace, Context], int]


@dataclass(frozen=True, slots=True)
class Command:
    """A word after `hako`, and the module that is imported when it is said."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("deploy", "hakobune.cli.deploy", "build a folder (or take an image) and serve it at a URL"),
    Command("build", "hakobune.cli.build", "build an image from a folder with buildpacks"),
    Command("builder", "hakobune.cli.builder", "make builders from a builder.toml, and show what one holds"),
    Command("builds", "hakobune.cli.builds", "list the last builds, and show what one printed"),
    Command("dockerfile", "hakobune.cli.dockerfile", "build an image from a Dockerfile"),
    Command("services", "hakobune.cli.services", "list, describe and delete services, split traffic"),
    Command("revisions", "hakobune.cli.revisions", "list the revisions of a service"),
    Command("rollback", "hakobune.cli.rollback", "give a service's traffic back to an earlier revision"),
    Command("logs", "hakobune.cli.logs", "show what a service's instances print"),
    Command("image", "hakobune.cli.image", "list, inspect, tag, save, load and remove images"),
    Command("container", "hakobune.cli.container", "run, list, stop and remove containers"),
    Command("serve", "hakobune.cli.serve", "run the supervisor, or stop all that it started"),
    Command("registry", "hakobune.cli.registry", "run the registry alone, back it up, restore it, verify it"),
    Command("artifacts", "hakobune.cli.artifacts", "repositories of images: make, list, clean up, and who may"),
    Command("secrets", "hakobune.cli.secrets", "passwords of upstream registries, by name"),
    Command("auth", "hakobune.cli.auth", "access tokens, docker's configuration, logins to registries"),
    Command("iam", "hakobune.cli.iam", "service accounts and their keys, roles"),
    Command("identity", "hakobune.cli.identity", "groups to which roles are granted"),
    Command("projects", "hakobune.cli.projects", "who has which role in a project"),
    Command("audit", "hakobune.cli.audit", "who did what to repositories, images and rights"),
    Command("doctor", "hakobune.cli.doctor", "list what this machine has and what it lacks"),
)  # fmt: skip


def run() -> NoReturn:
    """The whole life of a `hako` process: the command of its own arguments.

    It ends without taking the interpreter apart, which is 12 ms after a build.
    """
    gc.set_threshold(50_000)  # imports make many objects and no garbage
    _open_closed_streams()
    minds_interrupts = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    try:
        if minds_interrupts:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main()
        if minds_interrupts:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    except SystemExit as end:  # of --help
        code = int(end.code or 0)
    except KeyboardInterrupt:  # a moment before main, or after it
        code = 130
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = 141
    except OSError as error:
        print(f"error: cannot write the output\n  why: {error.strerror}", file=sys.stderr)
        code = 1
    os._exit(code)


def _open_closed_streams() -> None:
    """A standard stream that is closed (`>&-`) leads nowhere: else the next file that is opened would be it."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free: this one
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 # for the process's life


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* (default: the process's own) names; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments, os.environ)
    except HakoError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`hako … | head`): nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        home = Settings.from_environment(os.environ, uid=os.geteuid()).home
        explained = full_disk(error, home) if is_full(error) else refusal(error, home, os.geteuid())
        if explained is None:
            raise
        print(f"error: {explained}", file=sys.stderr)
        return 1


def full_disk(error: OSError, home: Path) -> HakoError:
    """The error for a write that found no room: at a file, below `HAKO_HOME`, or where the output goes."""
    if error.filename is None and has_room(home):
        return HakoError("cannot write the output", why=error.strerror or str(error))
    return HakoError(
        "the disk is full",
        why=f"{error.strerror} in {error.filename or home}",
        fix=how_to_make_room(home),
    )


def refusal(error: OSError, home: Path, uid: int) -> HakoError | None:
    """The error for what the system does not let us do below `HAKO_HOME`, or without root; `None` for every other."""
    path = Path(os.fsdecode(error.filename or ""))
    at_home = error.filename and (path.is_relative_to(home) or home.is_relative_to(path))
    if at_home and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        fix = (
            "set HAKO_HOME to a folder that can be written to"
            if error.errno in (errno.EROFS, errno.ENOTDIR)
            else f"run it as {_owner(home)}, or set HAKO_HOME to a folder of your own"
        )
        return HakoError(f"cannot use {home}", why=f"{error.strerror}: {path}", fix=fix)
    if error.errno == errno.EPERM and not error.filename and uid != 0:  # namespaces and mounts
        return HakoError(
            "this needs root",
            why=f"it mounts file systems or makes namespaces, and the kernel said: {error.strerror}",
            fix="run the command with sudo; `hako doctor` tells what this user lacks",
        )
    return None


def _owner(home: Path) -> str:
    try:
        uid = home.stat().st_uid
    except OSError:
        return "the user who owns it"
    return "root" if uid == 0 else f"the user with the id {uid}"


def _dispatch(arguments: list[str], env: Mapping[str, str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] in ("-V", "--version", "version"):
        print(f"hako {__version__}")
        return 0
    command = _find_command(arguments[0])
    parser = Parser(prog=f"hako {command.name}", description=_sentence(command.help))
    module = importlib.import_module(command.module)
    module.configure(parser)
    parsed = parser.parse_args(arguments[1:])
    context = Context(
        settings=Settings.from_environment(env, uid=os.geteuid()),
        env=env,
        out=sys.stdout,
        err=sys.stderr,
    )
    run: Run = parsed.run
    return run(parsed, context)


def _find_command(name: str) -> Command:
    for command in COMMANDS:
        if command.name == name:
            return command
    kind = "option" if name.startswith("-") else "command"
    near = _near(name, [c.name for c in COMMANDS])
    raise UsageError(
        f"hako has no {kind} {name!r}",
        fix=f"hako {near[0]}" if near else "`hako --help` lists the commands",
    )


def _near(typed: str, known: Sequence[str]) -> list[str]:
    import difflib  # only needed when something is wrong

    return difflib.get_close_matches(typed, known, n=1)


def _overview() -> str:
    width = max(len(command.name) for command in COMMANDS)
    lines = [
        "hako: a folder of source code in, a running web service out, on a machine you own.",
        "",
        "usage: hako COMMAND …           `hako COMMAND --help` says more",
        "",
        *(f"  {command.name:<{width}}  {command.help}" for command in COMMANDS),
        "",
        "environment:",
        *(line for setting in SETTINGS for line in _setting_lines(setting)),
        "",
        "exit codes: 0 done, 1 failed, 2 the command line is wrong, 20-29 no buildpack fits,",
        "            50-59 a buildpack failed, 125-127 and 128+N as docker's for `hako container run`",
    ]  # fmt: skip
    return "\n".join(lines)


def _setting_lines(setting: Setting) -> list[str]:
    import textwrap  # only the overview needs it

    meaning = f"{setting.meaning} (default: {setting.default or 'none'})"
    wrapped = textwrap.wrap(meaning, 72, break_on_hyphens=False)
    return [f"  {setting.variable}", *(f"      {line}" for line in wrapped)]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _format_help(prog: str) -> argparse.HelpFormatter:
    """argparse makes one for every argument, and asks shutil for the width, whose imports take 5 ms."""
    try:
        columns = int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(1).columns
    except (ValueError, OSError):
        columns = 80
    return argparse.HelpFormatter(prog, width=columns - 2)


_ActionT = TypeVar("_ActionT", bound=argparse.Action)
if TYPE_CHECKING:
    _VerbsAction = argparse._SubParsersAction["Parser"]
else:  # generic in its stub alone
    _VerbsAction = argparse._SubParsersAction


class _Verbs(_VerbsAction):
    """Commands below a command: what the list of them says of one begins its own help, too."""

    def add_parser(self, name: str, **kwargs: Any) -> Parser:
        if "description" not in kwargs and "help" in kwargs:
            kwargs["description"] = _sentence(kwargs["help"])
        return super().add_parser(name, **kwargs)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors say what is near the thing that was typed, and whose help has examples."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("allow_abbrev", False)
        kwargs.setdefault("formatter_class", _format_help)
        super().__init__(*args, **kwargs)  # type: ignore[arg-type] # argparse's own signature, passed through
        self.register("action", "parsers", _Verbs)

    def format_help(self) -> str:
        from hakobune.cli.examples import EXAMPLES  # only help needs them

        examples = EXAMPLES.get(self.prog.removeprefix("hako "), ())
        text = super().format_help()
        return text + "".join(["\nexamples:\n", *(f"  hako {example}\n" for example in examples)] if examples else ())  # fmt: skip

    def _add_action(self, action: _ActionT) -> _ActionT:
        if not action.option_strings and action.metavar is None and action.choices is None:
            action.metavar = action.dest.upper()
        return super()._add_action(action)

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        fix = f"`{self.prog} --help` lists the arguments"
        required = "the following arguments are required: "
        if message in (f"{required}VERB", f"{required}GROUP"):
            verbs = next(action for action in self._actions if isinstance(action, _Verbs))
            message = f"one of these must follow: {', '.join(verbs.choices)}"
        elif message.startswith("unrecognized arguments: "):
            typed = message.removeprefix("unrecognized arguments: ").split()
            unknown = next((t for t in typed if t.startswith("-")), typed[0]).partition("=")[0]
            near = _near(unknown, known)
            message = f"it does not know {unknown!r}"
            if near:
                fix = f"{near[0]} ({fix})"
        elif found := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            known = re.findall(r"[\w/.-]+", found[2])
            near = _near(found[1], known)
            fix = f"{near[0]} ({fix})" if near else fix
            message = f"{message.partition(': ')[0].removeprefix('argument ')} cannot be {found[1]!r}; there are {', '.join(known)}"
        raise UsageError(f"{self.prog}: the command line is wrong", why=message, fix=fix)


if __name__ == "__main__":
    run()
