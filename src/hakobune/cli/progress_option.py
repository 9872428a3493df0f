"""`--progress`: how a command tells what it does, to a person or to a program."""

from __future__ import annotations

import argparse
import json
from typing import TextIO

from hakobune.cli.main import Context
from hakobune.cli.terminal import BannerProgress
from hakobune.progress import Progress, SilentProgress


def add_progress(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--progress",
        choices=("auto", "plain", "json", "none"),
        default="auto",
        help="a bar on a terminal, lines elsewhere; always lines; one JSON object a line; nothing",
    )


def make_progress(arguments: argparse.Namespace, context: Context) -> Progress:
    """What `--progress` asks for; all of it goes to stderr."""
    match arguments.progress:
        case "json":
            return JsonProgress(context.err)
        case "none":
            return SilentProgress()
        case how:
            return BannerProgress(context.err, context.env, plain=how == "plain")


class JsonProgress:
    """One object a line: `{"event": "bytes", "what": …, "done": …, "total": …}`, `{"event": "step", "text": …}` …"""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def phase(self, name: str, detail: str = "") -> None:
        self._write({"event": "phase", "name": name, "detail": detail})

    def step(self, text: str) -> None:
        self._write({"event": "step", "text": text})

    def bytes(self, what: str, done: int, total: int | None) -> None:
        self._write({"event": "bytes", "what": what, "done": done, "total": total})

    def note(self, text: str, *, warning: bool = False) -> None:
        self._write({"event": "warning" if warning else "note", "text": text})

    def output(self, line: str) -> None:
        self._write({"event": "output", "line": line})

    def _write(self, event: dict[str, object]) -> None:
        print(json.dumps(event, ensure_ascii=False), file=self._stream, flush=True)
