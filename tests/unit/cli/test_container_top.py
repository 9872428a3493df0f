from __future__ import annotations

import pytest

from hakobune.cli.container_top import rows_of
from hakobune.errors import UsageError

TABLE = """USER     PID COMMAND
root       1 init
app       12 web 1
app      121 other
"""


def test_only_the_rows_of_its_processes_are_kept() -> None:
    assert rows_of(TABLE, (12,), ["aux"]) == ("USER     PID COMMAND", "app       12 web 1")


def test_without_a_column_of_pids_nobody_can_tell() -> None:
    with pytest.raises(UsageError) as raised:
        rows_of("COMMAND\ninit\n", (1,), ["-o", "args"])

    assert raised.value.what == "ps -o args shows no column PID"
