"""How a build from a Dockerfile is shown: numbered steps, their output, and what came from the cache."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

from hakobune.cli.terminal import CYAN, GREEN, YELLOW, human_size, print_line, wants_colour

_FAINT = "\x1b[2m"


def what_was_made(layers: int) -> str:
    """`2 layers made`, or that all came from the cache."""
    return f"{layers} layer{'s' if layers != 1 else ''} made" if layers else "nothing has changed"


class StepProgress:
    """Lines, as `docker build --progress plain` writes them; with colour on a terminal."""

    def __init__(self, stream: TextIO, *, colour: bool = False, quiet: bool = False) -> None:
        self._stream = stream
        self._colour = colour
        self._quiet = quiet
        self._started = time.monotonic()

    def phase(self, name: str, detail: str = "") -> None:
        self._say(f"{name} {detail}".rstrip(), CYAN)

    def step(self, text: str) -> None:
        self._say(text)

    def bytes(self, what: str, done: int, total: int | None) -> None:
        if total is not None and done >= total:
            self._say(f"{what}: {human_size(done)}")

    def note(self, text: str, *, warning: bool = False) -> None:
        self._say(f"Warning: {text}" if warning else text, YELLOW if warning else "")

    def output(self, line: str) -> None:
        self._say(line, _FAINT)

    def finish(self, made: int) -> None:
        """Say the total; *made* is how many layers were made."""
        seconds = time.monotonic() - self._started
        self._say(f"{what_was_made(made)}, {seconds:.1f} s", GREEN)

    def _say(self, text: str, colour: str = "") -> None:
        if not self._quiet:
            print_line(self._stream, text, colour if self._colour else "")


class JsonProgress(StepProgress):
    """One JSON object a line: `event` is step, note, warning, output, bytes or finished."""

    def phase(self, name: str, detail: str = "") -> None:
        self._put("step", text=f"{name} {detail}".rstrip())

    def step(self, text: str) -> None:
        self._put("note", text=text)

    def bytes(self, what: str, done: int, total: int | None) -> None:
        self._put("bytes", text=what, done=done, total=total)

    def note(self, text: str, *, warning: bool = False) -> None:
        self._put("warning" if warning else "note", text=text)

    def output(self, line: str) -> None:
        self._put("output", text=line)

    def finish(self, made: int) -> None:
        self._put("finished", made=made, seconds=round(time.monotonic() - self._started, 3))

    def _put(self, event: str, **fields: object) -> None:
        import json

        self._say(json.dumps({"event": event, **fields}, ensure_ascii=False))


def choose_progress(
    kind: str, stream: TextIO, env: Mapping[str, str], *, quiet: bool
) -> StepProgress:
    """The drawer for `--progress`."""
    if kind == "json":
        return JsonProgress(stream, quiet=quiet)
    colour = kind == "tty" or (kind == "auto" and wants_colour(stream, env))
    return StepProgress(stream, colour=colour and not env.get("NO_COLOR"), quiet=quiet)
