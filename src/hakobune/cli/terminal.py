"""Draws progress for a person: phases with times and a total, plain lines when nobody watches.

Results go to stdout; all of this goes to stderr. Colour only says again what the words say already.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TextIO

GREEN, YELLOW, CYAN, RESET = "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[0m"
WIDTH = 88


def wants_colour(stream: TextIO, env: Mapping[str, str]) -> bool:
    """`NO_COLOR`, `FORCE_COLOR` and `TERM=dumb` are honoured; else a terminal gets colour."""
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return True
    return stream.isatty() and env.get("TERM") != "dumb"


def human_size(count: float) -> str:
    """Decimal units, as disks and registries are sold: `71 MB`, `1.2 GB`, `812 B`."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def right_aligned(left: str, right: str, *, width: int = WIDTH) -> str:
    """*left*, with *right* ending at column *width*, at least two blanks apart."""
    return f"{left}{right:>{max(width - len(left), len(right) + 2)}}"


def print_line(stream: TextIO, text: str, colour: str = "") -> None:
    """Print a line at once, in *colour* if one is given."""
    print(f"{colour}{text}{RESET}" if colour else text, file=stream, flush=True)


class BannerProgress:
    """Pack's way: `===> DETECTING`, what happens below it, and how long the phase took."""

    def __init__(
        self,
        stream: TextIO,
        env: Mapping[str, str],
        *,
        quiet: bool = False,
        verbose: bool = False,
        plain: bool = False,
    ) -> None:
        self._stream = stream
        self._draws = stream.isatty() and not plain
        self._colour = wants_colour(stream, env)
        self._quiet = quiet
        self._verbose = verbose
        self._started = self._phase_started = time.monotonic()
        self._phase = ""
        self._kept: list[str] = []
        self._drawn_bytes = -1.0

    def phase(self, name: str, detail: str = "") -> None:
        now = time.monotonic()
        self._end_phase(now)
        self._phase, self._phase_started = name, now
        self._say(f"===> {name}" + (f"    {detail}" if detail else ""), CYAN)

    def step(self, text: str) -> None:
        self._say(text)

    def bytes(self, what: str, done: int, total: int | None) -> None:
        """A bar on a terminal, one line at the end elsewhere."""
        if self._quiet:
            return
        of = f" of {human_size(total)}" if total else ""
        finished = total is not None and done >= total
        if not self._draws:
            if finished:
                self._say(f"{what}: {human_size(done)}")
            return
        now = time.monotonic()
        if finished or now - self._drawn_bytes > 0.1:
            self._drawn_bytes = now
            self._stream.write(
                f"\r\x1b[K{what}: {human_size(done)}{of}" + ("\n" if finished else "")
            )
            self._stream.flush()

    def note(self, text: str, *, warning: bool = False) -> None:
        self._say(f"Warning: {text}" if warning else text, YELLOW if warning else "")

    def output(self, line: str) -> None:
        self._kept.append(line)
        self._say(line)

    def finish(self, what: str) -> None:
        """Close the last phase and say the total: `built in 14.2 s`."""
        now = time.monotonic()
        self._end_phase(now)
        self._say(f"{what} in {now - self._started:.1f} s", GREEN)

    def kept_output(self) -> tuple[str, ...]:
        """What foreign programs printed so far, to be shown when a quiet phase fails."""
        return tuple(self._kept)

    def _end_phase(self, now: float) -> None:
        if self._phase and self._verbose:
            self._say(f"     {self._phase.lower()} took {now - self._phase_started:.2f} s")
        self._phase = ""

    def _say(self, text: str, colour: str = "") -> None:
        if not self._quiet:
            print_line(self._stream, text, colour if self._colour else "")
