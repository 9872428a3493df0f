"""Which processes an app gets: the order of the places that say it, servers, shells."""

from pathlib import Path

import pytest
from hako_python.entrypoint import Start, choose_start
from hako_python.procfile import parse_procfile, to_command
from hako_python.project import read_project
from hako_python.report import BuildpackError

CONFIG = Path("/layers/hako_python/server/gunicorn.conf.py")
FLASK = "from flask import Flask\napp = Flask('x')\n"
FASTAPI = "from fastapi import FastAPI\napp = FastAPI()\n"
SCRIPTS = '[project]\nname = "shop"\n[project.scripts]\n'


def start(folder: Path, env: dict[str, str] | None = None, **files: str) -> Start:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_py", ".py").replace("_toml", ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return choose_start(read_project(folder), env or {}, gunicorn_config=CONFIG)


def web(chosen: Start) -> str:
    return " ".join(chosen.processes["web"].argv)


def test_a_wsgi_object_gets_gunicorn(tmp_path: Path) -> None:
    chosen = start(tmp_path, main_py=FLASK)

    assert web(chosen) == f"python -m gunicorn --config {CONFIG} main:app"
    assert (chosen.server, chosen.reason) == (
        "gunicorn",
        "Flask app in main.py:2: `app` on gunicorn",
    )


def test_an_asgi_object_gets_uvicorn(tmp_path: Path) -> None:
    chosen = start(tmp_path, server_py=FASTAPI)

    assert (web(chosen), chosen.server) == ("python -m uvicorn server:app", "uvicorn")


def test_the_app_s_own_gunicorn_configuration_is_not_overruled(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\n")

    assert web(start(tmp_path, main_py=FLASK)) == "python -m gunicorn main:app"


def test_modules_below_src_are_put_on_the_path_unless_they_are_installed(tmp_path: Path) -> None:
    assert web(start(tmp_path, src__main_py=FASTAPI)) == "python -m uvicorn --app-dir src main:app"

    build_system = '[build-system]\nrequires = ["hatchling"]\n'
    assert web(start(tmp_path, pyproject_toml=build_system)) == "python -m uvicorn main:app"


def test_google_entrypoint_goes_before_the_procfile(tmp_path: Path) -> None:
    env = {"GOOGLE_ENTRYPOINT": "python other.py"}

    assert web(start(tmp_path, env, Procfile="web: python web.py\n")) == "python other.py"


def test_the_procfile_goes_before_scripts_and_objects(tmp_path: Path) -> None:
    chosen = start(tmp_path, Procfile="web: python web.py\nmy-worker: python w.py\n", main_py=FLASK)

    assert web(chosen) == "python web.py"
    assert set(chosen.processes) == {"web", "my-worker"}


def test_a_server_named_in_the_procfile_is_installed(tmp_path: Path) -> None:
    assert start(tmp_path, Procfile="web: gunicorn main:app\n").server == "gunicorn"


def test_a_procfile_without_web_is_allowed_with_a_warning(tmp_path: Path) -> None:
    chosen = start(tmp_path, Procfile="worker: python w.py\n")

    assert set(chosen.processes) == {"worker"}
    assert len(chosen.warnings) == 1


def test_the_script_called_start_or_the_only_one_is_the_web_process(tmp_path: Path) -> None:
    two = SCRIPTS + 'start = "shop:main"\nlint = "shop:lint"\n[build-system]\nrequires = []\n'

    assert web(start(tmp_path, pyproject_toml=two, main_py=FLASK)) == "start"


def test_two_scripts_without_start_decide_nothing(tmp_path: Path) -> None:
    two = SCRIPTS + 'serve = "shop:main"\nlint = "shop:lint"\n'

    assert start(tmp_path, pyproject_toml=two, main_py=FASTAPI).server == "uvicorn"


def test_a_script_of_a_project_that_is_not_installed_is_called_by_name(tmp_path: Path) -> None:
    one = SCRIPTS + 'serve = "shop.cli:main"\n'

    assert start(tmp_path, pyproject_toml=one).processes["web"].argv[:2] == ("python", "-c")


def test_a_function_target_gets_the_functions_framework(tmp_path: Path) -> None:
    chosen = start(tmp_path, {"GOOGLE_FUNCTION_TARGET": "hello"}, main_py="def hello(r): ...\n")

    assert chosen.server == "functions-framework"
    assert web(chosen).startswith("python -m functions_framework --target hello")


def test_a_script_that_serves_by_itself_is_run_as_it_is(tmp_path: Path) -> None:
    source = "from http.server import HTTPServer\nHTTPServer(('', 8080), None).serve_forever()\n"

    assert web(start(tmp_path, main_py=source)) == "python main.py"


def test_streamlit_is_started_by_its_own_command(tmp_path: Path) -> None:
    chosen = start(tmp_path, app_py="import streamlit as st\nst.write(1)\n")

    assert web(chosen) == "python -m streamlit run app.py --server.headless=true"


def test_without_an_entry_point_the_message_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(BuildpackError, match="no entry point") as failure:
        start(tmp_path, lib_py="x = 1\n")

    assert "main.py, app.py" in failure.value.seen
    assert "lib.py" in failure.value.seen
    assert "GOOGLE_ENTRYPOINT" in failure.value.fix


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("gunicorn main:app", ("gunicorn", "main:app")),
        ('gunicorn "shop:create_app()"', ("gunicorn", "shop:create_app()")),
        ("exec python main.py", ("python", "main.py")),
        ("python -c 'print($PORT)'", ("python", "-c", "print($PORT)")),
    ],
)
def test_plain_words_need_no_shell(text: str, argv: tuple[str, ...]) -> None:
    command = to_command(text)

    assert (command.argv, command.needs_shell) == (argv, False)


@pytest.mark.parametrize(
    "text",
    ["gunicorn -b :$PORT a:b", "A=1 python x.py", "cd web && ls", "python *.py", "a 'b", 'x "$Y"', "a | b", "~/run", ". ./env"],
)  # fmt: skip
def test_shell_syntax_is_left_to_bash(text: str) -> None:
    assert to_command(text) == (("bash", "-c", text), True)


def test_procfile_lines_that_say_nothing_are_named() -> None:
    processes, complaints = parse_procfile(
        "# comment\r\nweb: a b\r\n\r\nbad line\r\nweb: c\r\nmy-worker_2:d\r\n"
    )

    assert processes == {"web": "a b", "my-worker_2": "d"}
    assert complaints == (
        "Procfile:4 is not `name: command`; it is left out",
        "Procfile:5 names 'web' again; the first one counts",
    )
