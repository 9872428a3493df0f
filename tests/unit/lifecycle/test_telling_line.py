import pytest

from hakobune.lifecycle.output import telling_line


@pytest.mark.parametrize(
    ("lines", "telling"),
    [
        (["a", "b"], "b"),
        (["Error: no pg_config", "hint: see docs"], "Error: no pg_config"),
        (["error: one", "error: two", "note"], "error: two"),
        (["  × command not found: gcc  ", ""], "× command not found: gcc"),
        (["terror", "done"], "done"),
        (["", " "], ""),
        ([], ""),
    ],
)
def test_the_last_line_that_speaks_of_an_error_tells_most(lines: list[str], telling: str) -> None:
    assert telling_line(lines) == telling
