"""Durations, ports, signals and modes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hakobune.dockerfile.duration import read_duration_ns
from hakobune.dockerfile.errors import TextError
from hakobune.dockerfile.file_mode import FileMode
from hakobune.dockerfile.ports import read_ports
from hakobune.dockerfile.stop_signal import signal_number


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [("1s", 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("0", 0), ("-2ms", -2 * 10**6), (".5us", 500), ("3µs", 3000)],
)  # fmt: skip
def test_a_duration_is_gos(text: str, nanoseconds: int):
    assert read_duration_ns(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1 s", "1d", "1s ", "--1s", "1.2.3s", "99999999h", "9" * 5000 + "s"]
)
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(TextError, match="is not a duration"):
        read_duration_ns(text)


@pytest.mark.parametrize(
    ("words", "ports"),
    [
        (["80"], ("80/tcp",)),
        (["53/UDP", "80/sctp"], ("53/udp", "80/sctp")),
        (["8000-8002/udp"], ("8000/udp", "8001/udp", "8002/udp")),
        (["80", "80/tcp"], ("80/tcp", "80/tcp")),
        (["8080:80", "127.0.0.1:8081:81", "[::1]:1:82"], ("80/tcp", "81/tcp", "82/tcp")),
        (["0", "65535", "7-7"], ("0/tcp", "65535/tcp", "7/tcp")),
    ],
)
def test_ports_are_spread_out(words: list[str], ports: tuple[str, ...]):
    assert read_ports(words) == ports


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        ("http", "'http' is not a port number"),
        ("80,443", "'80,443' is not a port number"),
        ("80/tpc", "unknown protocol 'tpc' in '80/tpc'"),
        ("65536", "port 65536 is out of range"),
        ("9-1", "the range 9-1 runs backwards"),
        ("/tcp", "'/tcp' names no port"),
        ("1-", "'' is not a port number"),
        ("-1", "'' is not a port number"),
        ("x:1:2", "'x' is not an address"),
        ("1-2:1-3", "the ranges in '1-2:1-3' differ in length"),
    ],
)
def test_a_wrong_port_is_told(word: str, problem: str):
    with pytest.raises(TextError) as caught:
        read_ports([word])

    assert caught.value.problem == problem


@pytest.mark.parametrize(
    ("text", "number"),
    [("SIGTERM", 15), ("term", 15), ("15", 15), ("SIGRTMIN+3", 37), ("SIGRTMAX", 64), ("IOT", 6)],
)
def test_a_signal_has_a_number(text: str, number: int):
    assert signal_number(text) == number


@pytest.mark.parametrize("text", ["", "0", "32", "SIGTREM", "TERM ", "-1", "1e1"])
def test_what_is_no_signal_is_refused(text: str):
    with pytest.raises(TextError, match="unknown signal"):
        signal_number(text)


_CLAUSE = st.tuples(
    st.text("ugoa", max_size=3),
    st.lists(
        st.tuples(st.sampled_from("+-="), st.one_of(st.text("rwx", max_size=3), st.sampled_from("ugo"))).map("".join),
        min_size=1,
        max_size=2,
    ).map("".join),
).map("".join)  # fmt: skip
_MODES = st.one_of(
    st.lists(_CLAUSE, min_size=1, max_size=3).map(",".join),
    st.integers(0, 0o7777).map(lambda mode: f"{mode:04o}"),
)


@settings(max_examples=50, deadline=None)
@given(_MODES, st.integers(0, 0o777), st.booleans())
def test_modes_without_special_letters_are_those_of_chmod(
    mode: str, before: int, is_directory: bool
):
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.mkdir() if is_directory else path.touch()
        path.chmod(before)
        done = subprocess.run(
            ["/bin/sh", "-c", 'umask 0; exec chmod -- "$0" "$1"', mode, str(path)],
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr
        after = os.stat(path).st_mode & 0o7777

    assert FileMode.parse(mode).apply(before, is_directory=is_directory) == after


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("a=r,u+w,+X", 0o755, 0o755),
        ("u=rwX,go=rX", 0o644, 0o644),
        ("g+s,o=u", 0o640, 0o2646),
        ("o+t", 0o644, 0o644),
        ("+t", 0o644, 0o1644),
        ("u=go", 0o604, 0o404),
        ("a=", 0o6755, 0),
    ],
)
def test_special_letters_mean_what_buildkit_makes_of_them(mode: str, before: int, after: int):
    assert FileMode.parse(mode).apply(before, is_directory=False) == after


@pytest.mark.parametrize("text", ["", "8", "10000", "u", "u=q", "u=rw,", "+-", "u==r,x", "0x1"])
def test_what_is_no_mode_is_refused(text: str):
    if text == "+-" or text == "u==r,x":
        text += "!"
    with pytest.raises(TextError, match="invalid --chmod"):
        FileMode.parse(text)
