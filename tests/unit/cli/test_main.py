import errno
import importlib
import subprocess
import sys

import pytest

from hakobune import errors
from hakobune.cli.main import COMMANDS, Parser, main, refusal


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


def test_a_group_without_a_verb_names_them(capsys):
    code = main(["services"])

    assert code == 2
    assert "list, describe, delete, update-traffic" in capsys.readouterr().err


def test_help_shows_what_its_group_says_of_it_and_examples(capsys):
    with pytest.raises(SystemExit):
        main(["services", "update-traffic", "--help"])

    text = capsys.readouterr().out
    assert "\nSplit the traffic between revisions.\n" in text
    assert "\n  SERVICE\n" in text
    assert "examples:\n  hako services update-traffic shop --to-revisions" in text


@pytest.mark.parametrize("words", ["--help", "artifacts --help", "doctor"])
def test_an_output_that_is_full_is_an_error_in_words(words):
    program = "from hakobune.cli.main import run; run()"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, *words.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert (done.returncode, done.stderr) == (
        1,
        "error: cannot write the output\n  why: No space left on device\n",
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_leads_nowhere(closed):
    program = "from hakobune.cli.main import run; run()"

    done = subprocess.run(
        ["/bin/sh", "-c", f'"$0" -c "{program}" --help {closed}', sys.executable],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("code", "why", "fix"),
    [
        (errno.EROFS, "Read-only file system", "set HAKO_HOME to a folder that can be written to"),
        (errno.EACCES, "Permission denied", "run it as "),
        (errno.ENOTDIR, "Not a directory", "set HAKO_HOME to a folder that can be written to"),
    ],
)
def test_a_home_that_may_not_be_written_is_an_error_in_words(tmp_path, code, why, fix):
    name = tmp_path / "images/.hako/lock"

    error = refusal(OSError(code, why, str(name)), tmp_path, 0)

    assert str(error).startswith(f"cannot use {tmp_path}\n  why: {why}: {name}\n  fix: {fix}")
    assert refusal(OSError(code, why, str(tmp_path.parent)), tmp_path, 0) is not None
    assert refusal(OSError(code, why, "/etc/passwd"), tmp_path, 0) is None


def test_a_mount_that_is_refused_names_root_but_not_to_root(tmp_path):
    error = OSError(errno.EPERM, "open_tree(/x): Operation not permitted")

    assert "this needs root" in str(refusal(error, tmp_path, 1000))
    assert refusal(error, tmp_path, 0) is None


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
