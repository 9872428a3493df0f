import importlib
import subprocess
import sys

import pytest

from hakobune import errors
from hakobune.cli.main import COMMANDS, Parser, main


def test_every_command_of_the_overview_can_be_loaded_and_described():
    for command in COMMANDS:
        parser = Parser(prog=command.name)
        importlib.import_module(command.module).configure(parser)

        assert parser.format_help()


def test_an_unknown_command_names_the_nearest_one(capsys):
    code = main(["bluid"])

    assert code == 2
    assert capsys.readouterr().err == ("error: hako has no command 'bluid'\n  fix: hako build\n")


def test_an_unknown_flag_names_the_nearest_one(capsys):
    code = main(["services", "list", "--fromat", "json"])

    assert code == 2
    assert "it does not know '--fromat'" in capsys.readouterr().err


def test_without_a_command_the_overview_is_printed(capsys):
    assert main([]) == 0
    assert "usage: hako COMMAND" in capsys.readouterr().out


def test_the_command_line_starts_without_the_libraries_of_servers():
    # What is imported here is paid by every command; hako answers in 50 ms.
    program = (
        "import sys; import hakobune.cli.main, hakobune.cli.services, hakobune.cli.client;"
        "print(sorted({'msgspec', 'starlette', 'sqlalchemy', 'asyncio', 'isal'} & set(sys.modules)))"
    )

    out = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    ).stdout

    assert out == "[]\n"


@pytest.mark.parametrize("error", [errors.HakoError, errors.UsageError])
def test_an_error_prints_what_why_and_fix(error, capsys):
    text = str(error("cannot do it", why="it is closed", fix="open it"))

    assert text == "cannot do it\n  why: it is closed\n  fix: open it"
