"""Draws a deploy as a person reads it: one line a stage, its time at the right, what failed in full.

Foreign output (a buildpack's) passes by on a terminal, or stays with `--verbose`; `hako builds log` has all of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

from hakobune.cli.terminal import CYAN, GREEN, RESET, YELLOW, right_aligned, wants_colour

LABEL = 9  # "service  …": the column in which a line's text begins


class DeployLines:
    """The lines of one deploy, on *stream*. `Progress` events of the build pass through it."""

    def __init__(self, stream: TextIO, env: Mapping[str, str], *, verbose: bool = False) -> None:
        self._stream = stream
        self._colour = wants_colour(stream, env)
        self._live = stream.isatty() and env.get("TERM") != "dumb"
        self._verbose = verbose
        self._began = time.monotonic()
        self._phase = ""
        self._phase_began = self._began
        self._spent: dict[str, float] = {}
        self._transient = False

    def row(self, label: str, text: str, *, seconds: float | None = None) -> None:
        """Print one stage's line, with its time if that is known."""
        line = f"{label:<{LABEL - 1}} {text}"
        self._print(line if seconds is None else right_aligned(line, f"{seconds:.1f} s"), label)

    def spent(self, *phases: str) -> float:
        """The seconds that these phases took so far."""
        self._end_phase()
        return sum(self._spent.get(phase, 0.0) for phase in phases)

    def total(self, label: str, text: str) -> None:
        """Print the last stage's line, with the time of the whole."""
        seconds = time.monotonic() - self._began
        self._print(right_aligned(f"{label:<{LABEL - 1}} {text}", f"total {seconds:.1f} s"), label)

    def hint(self, text: str) -> None:
        """Print a line that belongs to no stage, below the others' text."""
        self._print(" " * LABEL + text)

    # Progress

    def phase(self, name: str, detail: str = "") -> None:
        self._end_phase()
        self._phase = name
        if self._verbose:
            self._print(f"===> {name} {detail}".rstrip())
        elif not name.isupper() and detail:
            # Not one of the lifecycle's: something made once, which takes its time.
            self._print(f"{'once':<{LABEL - 1}} {name.lower()}: {detail}", "once")
        else:
            self._show(f"{name.lower():<{LABEL - 1}} …")

    def step(self, text: str) -> None:
        if self._verbose:
            self._print(text)

    def bytes(self, what: str, done: int, total: int | None) -> None:
        share = f" {100 * done // total} %" if total else ""
        self._show(f"{'fetch':<{LABEL - 1}} {what}{share}")

    def note(self, text: str, *, warning: bool = False) -> None:
        self._print(
            f"{'warning' if warning else 'note':<{LABEL - 1}} {text}", "warning" if warning else ""
        )

    def output(self, line: str) -> None:
        if self._verbose:
            self._print(line)
        else:
            self._show(f"{self._phase.lower():<{LABEL - 1}} {line}")

    def _end_phase(self) -> None:
        now = time.monotonic()
        if self._phase:
            self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._phase_began
        self._phase, self._phase_began = "", now

    def _show(self, text: str) -> None:
        """Show *text* on a terminal until the next line takes its place."""
        if self._live and not self._verbose:
            self._stream.write(f"\r\x1b[K{text[:100]}")
            self._stream.flush()
            self._transient = True

    def _print(self, line: str, label: str = "") -> None:
        if self._transient:
            self._stream.write("\r\x1b[K")
            self._transient = False
        colour = {"warning": YELLOW, "live": GREEN}.get(label, CYAN if label else "")
        if self._colour and colour:
            line = f"{colour}{line[:LABEL]}{RESET}{line[LABEL:]}"
        print(line, file=self._stream, flush=True)
