"""How a build from a Dockerfile is shown: numbered steps, their output, and what came from the cache."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

from hakobune.cli.terminal import CYAN, GREEN, RESET, YELLOW, human_size, wants_colour

_FAINT = "\x1b[2m"


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
        what = f"{made} layer{'s' if made != 1 else ''} made" if made else "nothing has changed"
        self._say(f"{what}, {seconds:.1f} s", GREEN)

    def _say(self, text: str, colour: str = "") -> None:
        if self._quiet:
            return
        if colour and self._colour:
            text = f"{colour}{text}{RESET}"
        print(text, file=self._stream, flush=True)


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
