from __future__ import annotations

from collections.abc import Mapping

import pytest

from hakobune.dockerfile.instructions import CommandLine
from hakobune.dockerfile.run_hints import hint

FILES = {
    "/bin/sh": b"\x7fELF",
    "/sbin/apk": b"\x7fELF",
    "/app/dos": b"#!/bin/sh\r\necho\r\n",
    "/app/bash": b"#!/bin/bash -e\necho\n",
    "/app/good": b"#!/bin/sh\necho\n",
    "/app/elf": b"\x7fELF",
}


def hinted(
    text: str,
    code: int,
    *last: str,
    words: tuple[str, ...] = (),
    files: Mapping[str, bytes] = FILES,
) -> str:
    command = CommandLine(words=words or (text,), shell=not words)
    argv = words or ("/bin/sh", "-c", text)
    return hint(command, argv, code, last, files.get, cwd="/app")


@pytest.mark.parametrize(
    ("text", "code", "last", "expected"),
    [
        ("./dos", 127, "/bin/sh: 1: ./dos: not found", "/app/dos has Windows line ends"),
        ("/app/bash", 127, "/bin/sh: line 1: /app/bash: No such file or directory", "its interpreter /bin/bash is not in the image"),
        ("/app/elf", 127, "/bin/sh: 1: /app/elf: not found", "a library or the loader that it needs is not"),
        ("./good", 126, "/bin/sh: 1: ./good: Permission denied", "/app/good may not be executed: COPY --chmod=755"),
        ("./gone", 127, "/bin/sh: 1: ./gone: not found", ""),
        ("apt-get update", 127, "/bin/sh: 1: apt-get: not found", "the image has apk, not apt-get"),
        ("yum x", 127, "/bin/sh: line 1: yum: command not found", "the image has apk, not yum"),
        ("['echo', 'a']", 127, "/bin/sh: 1: [echo,: not found", "in double quotes"),
        ("make", 127, "/bin/sh: 1: make: not found", ""),
        ("false", 1, "/app/dos: not found", ""),
        ("x", 127, "", ""),
    ],
)  # fmt: skip
def test_a_failed_command_gets_the_likely_fix(text: str, code: int, last: str, expected: str):
    found = hinted(text, code, last)

    assert expected in found
    assert bool(found) == bool(expected)


def test_an_exec_form_with_blanks_in_a_word_is_taken_apart():
    assert hinted("", 127, "echo a: No such file or directory", words=("echo a", "b")).endswith(
        'RUN ["echo", "a", "b"]'
    )


def test_a_shell_that_is_not_there_is_named():
    assert hinted("x", 127, "", files={}).startswith("the image has no /bin/sh")
    assert (
        hinted("apt x", 127, "sh: apt: not found", files={"/bin/sh": b""}) == "the image has no apt"
    )
