"""The ASGI or WSGI object is found by reading the source."""

from pathlib import Path

import pytest
from hako_python.scan import CONSTRUCTORS, PACKAGES, Found, find_application


def app(folder: Path, packages: dict[str, str] | None = None, **files: str) -> Found | None:
    """Write files (`__` is a slash, `.py` is added) and packages' `__init__.py`, then look for the object."""
    named = {f"{name.replace('__', '/')}.py": text for name, text in files.items()}
    named |= {f"{name}/__init__.py": text for name, text in (packages or {}).items()}
    for name, text in named.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return find_application(folder)


@pytest.mark.parametrize(
    ("source", "kind", "target"),
    [
        ("from flask import Flask\napp = Flask(__name__)\n", "WSGI", "main:app"),
        ("import flask\nweb: flask.Flask = flask.Flask(__name__)\n", "WSGI", "main:web"),
        ("import flask as f\napp = f.Flask(__name__)\n", "WSGI", "main:app"),
        ("from fastapi import FastAPI as F\nbackend = F()\n", "ASGI", "main:backend"),
        ("from starlette.applications import Starlette\napp = Starlette()\n", "ASGI", "main:app"),
        ("import falcon\napp = falcon.App()\n", "WSGI", "main:app"),
        ("import falcon.asgi\napp = falcon.asgi.App()\n", "ASGI", "main:app"),
        ("from aiohttp import web\napp = web.Application()\n", "aiohttp", "main:app"),
        ("import dash\napp = dash.Dash(__name__)\n", "Dash", "main:app.server"),
        ("import dash\nui = dash.Dash(__name__)\nserver = ui.server\n", "WSGI", "main:server"),
        ("async def app(scope, receive, send):\n    pass\n", "ASGI", "main:app"),
        ("def application(environ, start_response):\n    pass\n", "WSGI", "main:application"),
        ("from fasthtml.common import *\nfrom fasthtml.common import fast_app\napp, rt = fast_app()\n", "ASGI", "main:app"),
        ("try:\n    from flask import Flask\nexcept ImportError:\n    raise\napp = Flask('x')\n", "WSGI", "main:app"),
        ("from flask import Flask\nfrom werkzeug.middleware.proxy_fix import ProxyFix\napp = Flask('x')\napp = ProxyFix(app)\n", "WSGI", "main:app"),
    ],
)  # fmt: skip
def test_objects_of_known_frameworks_are_found(
    tmp_path: Path, source: str, kind: str, target: str
) -> None:
    found = app(tmp_path, main=source)

    assert found is not None
    assert (found.kind, found.target, found.factory) == (kind, target, False)


def test_a_favoured_name_wins_over_an_earlier_one(tmp_path: Path) -> None:
    found = app(tmp_path, main="from flask import Flask\nadmin = Flask('a')\napp = Flask('b')\n")

    assert found is not None
    assert (found.name, found.line) == ("app", 3)


def test_main_is_read_before_app_and_packages(tmp_path: Path) -> None:
    flask = "from flask import Flask\napp = Flask('x')\n"

    found = app(tmp_path, app=flask, shop__web=flask, main=flask)

    assert found is not None
    assert found.file == "main.py"


def test_a_file_of_any_name_in_the_root_is_read(tmp_path: Path) -> None:
    found = app(tmp_path, zebra="from flask import Flask\nzoo = Flask('x')\n")

    assert found is not None
    assert found.target == "zebra:zoo"


def test_a_package_below_src_has_its_own_name_and_folder(tmp_path: Path) -> None:
    source = "from fastapi import FastAPI\napi = FastAPI()\n"

    found = app(tmp_path, {"src/shop": ""}, src__shop__web=source)

    assert found is not None
    assert (found.target, found.source_folder, found.file) == (
        "shop.web:api",
        "src",
        "src/shop/web.py",
    )


def test_tests_and_migrations_are_not_searched(tmp_path: Path) -> None:
    source = "from flask import Flask\napp = Flask('x')\n"

    assert app(tmp_path, tests__app=source, migrations__main=source) is None


def test_django_is_found_through_manage_py(tmp_path: Path) -> None:
    wsgi = (
        "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
    )
    manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"

    found = app(tmp_path, manage=manage, shop__wsgi=wsgi, accounts__app="x = 1\n")

    assert found is not None
    assert (found.framework, found.target) == ("Django", "shop.wsgi:application")


def test_a_factory_is_served_if_there_is_no_object(tmp_path: Path) -> None:
    found = app(
        tmp_path, main="from flask import Flask\ndef create_app():\n    return Flask('x')\n"
    )

    assert found is not None
    assert (found.name, found.factory, found.kind) == ("create_app", True, "WSGI")


def test_a_factory_that_wants_arguments_is_none(tmp_path: Path) -> None:
    source = "from flask import Flask\ndef create_app(config):\n    return Flask('x')\n"

    assert app(tmp_path, main=source) is None


def test_what_a_factory_of_the_same_file_made_is_an_object(tmp_path: Path) -> None:
    source = "def make():\n    from fastapi import FastAPI\n    return FastAPI()\n\napp = make()\n"

    found = app(tmp_path, main=source)

    assert found is not None
    assert (found.kind, found.target) == ("ASGI", "main:app")


def test_an_object_that_is_imported_is_served_under_the_importing_name(tmp_path: Path) -> None:
    found = app(
        tmp_path,
        {"shop": ""},
        main="from shop.web import api as app\n",
        shop__web="from fastapi import FastAPI\napi = FastAPI()\n",
    )

    assert found is not None
    assert found.target == "main:app"


def test_what_an_imported_factory_made_is_an_object(tmp_path: Path) -> None:
    found = app(
        tmp_path,
        {"shop": "from flask import Flask\ndef create_app():\n    return Flask('x')\n"},
        wsgi="from shop import create_app\n\napp = create_app()\n",
    )

    assert found is not None
    assert found.target == "wsgi:app"


def test_an_object_under_the_main_guard_is_not_importable(tmp_path: Path) -> None:
    source = "from flask import Flask\nif __name__ == '__main__':\n    app = Flask('x')\n"

    assert app(tmp_path, main=source) is None


@pytest.mark.parametrize("source", ["def broken(:\n", "x = 1\n", "\x00", "app = Flask('x')\n"])
def test_files_without_an_object_are_passed_by(tmp_path: Path, source: str) -> None:
    assert app(tmp_path, main=source) is None


def test_modules_that_import_each_other_do_not_hang(tmp_path: Path) -> None:
    assert app(tmp_path, main="from app import x\n", app="from main import x\n") is None


def test_each_framework_s_name_means_one_package() -> None:
    packages: dict[str, set[str]] = {}
    for name, (_, label) in CONSTRUCTORS.items():
        if label in PACKAGES:
            packages.setdefault(label, set()).add(name.split(".")[0])

    assert {label: found for label, found in packages.items() if len(found) > 1} == {}
