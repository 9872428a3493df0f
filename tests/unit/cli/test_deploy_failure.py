from hakobune.cli.deploy_failure import (
    close_folders,
    explain_build,
    explain_no_buildpack,
    with_advice,
    with_log_command,
)

DEAF = """\
shop-00003 does not listen on $PORT (8080). shop-00002 keeps 100 %.
  seen   python main.py (pid 7) alive 240 s; listens on 127.0.0.1:5000 only
  fix    listen on 0.0.0.0 and the port in $PORT, or deploy with --port 5000
  log    last:  * Running on http://127.0.0.1:5000"""


def test_a_failed_build_names_the_telling_line_and_where_it_is():
    output = ["one", "  fatal: x.h is missing", "three"]

    lines = explain_build(
        "build failed",
        seen="fatal: x.h is missing",
        fix="a:7 b",
        log=output,
        command="hako builds log 7",
    )

    assert lines == (
        "build failed",
        "  seen   | fatal: x.h is missing   (line 2 of 3: hako builds log 7)",
        "  fix    a:7 b",
    )


def test_a_line_that_was_not_printed_has_no_number():
    lines = explain_build(
        "failed", seen="exit code 1", fix="", log=["a"], command="hako builds log"
    )

    assert lines == ("failed", "  seen   | exit code 1   (hako builds log)")


def test_a_folder_that_no_buildpack_knows_is_told_what_was_tried_and_what_comes_close():
    lines = explain_no_buildpack(
        "no buildpack knows this folder", tried="tried a: no x", close=("./b has y",), fix="do z"
    )

    assert lines == (
        "no buildpack knows this folder",
        "  tried  a: no x",
        "  close  ./b has y",
        "  fix    do z",
    )


def test_sub_folders_that_would_work_are_found_the_nearest_first():
    files = (
        "README.md",
        "backend/requirements.txt",
        "backend/pyproject.toml",
        "a/b/c/Procfile",
        "node_modules/x/pyproject.toml",
        "pyproject.toml",
    )

    assert close_folders(files, source="") == (
        "./backend has a pyproject.toml → hako deploy --source backend",
        "./a/b/c has a Procfile → hako deploy --source a/b/c",
    )
    assert close_folders(files[1:3], source="src/tool/") == (
        "./backend has a pyproject.toml → hako deploy --source src/tool/backend",
    )


def test_the_fix_of_a_deaf_revision_names_the_line_of_the_source():
    source = 'import os\n\napp.run(host="127.0.0.1", port=5000)\n'

    lines = with_advice(DEAF, {"main.py": source}).splitlines()

    assert lines[2] == '  fix    main.py:3  app.run(host="0.0.0.0", port=int(os.environ["PORT"]))'
    assert lines[:2] + lines[3:] == DEAF.splitlines()[:2] + DEAF.splitlines()[3:]


def test_other_failures_keep_their_fix():
    message = "shop-00003 exited with code 1 before it was ready.\n  seen   x"

    assert with_advice(message, {"main.py": 'app.run(host="localhost")'}) == message
    assert with_advice(DEAF, {"main.py": "print()"}) == DEAF


def test_the_log_line_says_how_to_see_all_of_it():
    assert with_log_command(DEAF, "shop").splitlines()[3] == (
        '  log    hako logs shop --revision shop-00003 · last: " * Running on http://127.0.0.1:5000"'
    )
