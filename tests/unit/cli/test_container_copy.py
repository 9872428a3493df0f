from __future__ import annotations

import pytest

from hakobune.cli.container_copy import Path, parse_path
from hakobune.errors import UsageError


@pytest.mark.parametrize(
    ("text", "container", "path"),
    [
        ("web:/etc", "web", "/etc"),
        ("web:etc", "web", "/etc"),
        ("file", "", "file"),
        ("./a:b", "", "./a:b"),
        ("/a:b", "", "/a:b"),
        ("-", "", "-"),
        ("web:/a:b", "web", "/a:b"),
    ],
)
def test_a_path_is_a_container_s_or_this_machine_s(text: str, container: str, path: str) -> None:
    assert parse_path(text) == Path(container, path)


@pytest.mark.parametrize(
    ("text", "fix"),
    [("", "hako container cp"), ("web:", "web:/"), ("A B:/x", "./A B:/x"), (":/x", "./:/x")],
)
def test_what_is_neither_is_refused_with_what_to_write(text: str, fix: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_path(text)

    assert fix in raised.value.fix
