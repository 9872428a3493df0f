"""Names of signals, as STOPSIGNAL takes them on Linux."""

from __future__ import annotations

from hakobune.dockerfile.errors import TextError, did_you_mean

# fmt: off
# In the order of their numbers, from 1.
_NAMES = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
)
# fmt: on
_NUMBERS = {name: number for number, name in enumerate(_NAMES, start=1)}
_ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29, "UNUSED": 31}
_REAL_TIME = {
    "RTMIN": 34,
    **{f"RTMIN+{step}": 34 + step for step in range(1, 16)},
    **{f"RTMAX-{step}": 64 - step for step in range(1, 15)},
    "RTMAX": 64,
}
SIGNALS = {**_NUMBERS, **_ALIASES, **_REAL_TIME}


def signal_number(text: str) -> int:
    """The number of `SIGTERM`, `term` or `15`.

    Raises:
        TextError: there is no such signal.
    """
    if text.isascii() and text.isdecimal() and len(text) < 4:
        number = int(text)
        if number in _NUMBERS.values():
            return number
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    raise TextError(
        f"unknown signal {text!r}",
        near=text,
        fix=did_you_mean(text.removeprefix("SIG"), SIGNALS) or "write SIGTERM, for example",
    )
