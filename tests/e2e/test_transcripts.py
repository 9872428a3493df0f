"""What a stranger reads, in good and bad cases: the same lines, labels and facts as promised; numbers by pattern."""

from __future__ import annotations

import re
import time
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.e2e.load import Load

pytestmark = pytest.mark.needs_root

FLASK = """\
from flask import Flask

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return "first"
"""
LOOPBACK = """\
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    pass


print("serves on 5000", flush=True)
HTTPServer(("127.0.0.1", 5000), Handler).serve_forever()
"""
ANSWERS = """\
import os
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status})
        self.send_header("Location", "/login")
        self.end_headers()
        self.wfile.write(b"the database is away\\nmore")


HTTPServer(("", {port}), Handler).serve_forever()
"""
WEB = "web: python main.py\n"
SOON = "periodSeconds=6,failureThreshold=1"


def a_folder(parent: Path, name: str, **files: str) -> Path:
    """A source folder; `main_py="…"` is the file `main.py`."""
    folder = parent / name
    folder.mkdir()
    for file, text in files.items():
        (folder / file.replace("_py", ".py").replace("_txt", ".txt")).write_text(text)
    return folder


def fail(
    installation: Installation, folder: Path, *arguments: str, code: int = 1
) -> tuple[list[str], list[str]]:
    """Deploy what cannot become ready; the lines before the error, and the error's."""
    done = installation.hako("deploy", "--source", str(folder), *arguments, check=False)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    before, _, error = done.stderr.partition("error: ")
    return before.splitlines(), ("error: " + error).splitlines()


def matches(lines: list[str], *patterns: str) -> None:
    """Each line matches its pattern, whole."""
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), f"{line!r} is not {pattern!r}"


def test_a_new_service_and_one_changed_line_under_load(
    shared_installation: Installation, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path, "kiosk", main_py=FLASK, requirements_txt="flask==3.1.2\n")

    first = shared_installation.hako("deploy", cwd=folder)
    url = first.stdout.strip()
    (folder / "main.py").write_text(FLASK.replace("first", "second"))
    with Load(shared_installation.port, "kiosk.localhost", rate=50) as load:
        time.sleep(0.5)
        second = shared_installation.hako("deploy", cwd=folder)
        time.sleep(0.5)

    matches(
        [line for line in first.stderr.splitlines() if not line.startswith("once ")],
        r"kiosk    new service · \S*/kiosk, 2 files, \d+ B",
        r"detect   python · Python 3\.\d+\.\d+, requirements\.txt · Flask app in main\.py:3: `app` on gunicorn +\d+\.\d s",
        r"build    \d+ layers made +\d+\.\d s",
        r"image    hako/apps/kiosk@sha256:[0-9a-f]{8} · \d+ MB · \d+ new layers +\d+\.\d s",
        r"start    kiosk-00001 · gunicorn listens on 0\.0\.0\.0:8080 after \d+\.\d s +\d+\.\d s",
        r"live     kiosk-00001 gets 100 % +total \d+\.\d s",
        r"         next: hako logs -f kiosk · hako services describe kiosk",
    )
    matches(first.stdout.splitlines(), r"http://\S+")
    assert urllib.request.urlopen(url, timeout=10).read() == b"second"
    matches(
        second.stderr.splitlines(),
        r"kiosk    kiosk-00001 serves · \S*/kiosk, 2 files, \d+ B",
        r"detect   python · .*\d+\.\d s",
        r"build    main\.py changed · 4 of 5 layers kept +\d+\.\d s",
        r"image    hako/apps/kiosk@sha256:[0-9a-f]{8} · \d+ MB · 1 new layer +\d+\.\d s",
        r"start    kiosk-00002 · gunicorn listens on 0\.0\.0\.0:8080 after \d+\.\d s · kiosk-00001 drained, 0 requests cut +\d+\.\d s",
        r"live     kiosk-00002 gets 100 % +total \d+\.\d s",
        r"         next: .* · undo: hako rollback kiosk",
    )
    assert second.stdout == first.stdout
    assert load.failures() == []
    assert load.bodies() == {b"first", b"second"}


def test_an_app_on_loopback_is_told_so_while_it_waits_and_at_the_deadline(
    shared_installation: Installation, tmp_path: Path
) -> None:
    folder = a_folder(
        tmp_path, "deaf", main_py=ANSWERS.format(status=200, port="int(os.environ['PORT'])")
    )
    shared_installation.deploy(folder)
    (folder / "main.py").write_text(LOOPBACK)

    before, error = fail(shared_installation, folder, "--startup-probe", SOON)

    assert before[-1] == "note     deaf-00002 listens on 127.0.0.1:5000 only; $PORT is 8080"
    matches(
        error,
        r"error: deaf-00002 does not listen on \$PORT \(8080\)\. deaf-00001 keeps 100 %\.",
        r"  seen   python main\.py \(pid \d+\) alive \d+ s; listens on 127\.0\.0\.1:5000 only",
        r'  fix    main\.py:9  HTTPServer\(\("0\.0\.0\.0", int\(os\.environ\["PORT"\]\)\), Handler\)',
        r'  log    hako logs deaf --revision deaf-00002 · last: "serves on 5000"',
    )
    status, _ = shared_installation.get(host="deaf.localhost")
    assert status == 200
    log = shared_installation.hako("logs", "deaf", "--revision", "deaf-00002").stdout
    assert "serves on 5000" in log


def test_an_app_that_ignores_port_is_told_which_one_it_took(
    shared_installation: Installation, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path, "stubborn", main_py=ANSWERS.format(status=200, port=5000))

    _, error = fail(shared_installation, folder, "--startup-probe", SOON)

    matches(
        error[:3],
        r"error: stubborn-00001 does not listen on \$PORT \(8080\)\. Nothing serves yet\.",
        r"  seen   python main\.py \(pid \d+\) alive \d+ s; listens on 0\.0\.0\.0:5000 only",
        r"  fix    main\.py:13  HTTPServer\(\('', int\(os\.environ\[\"PORT\"\]\)\), Handler\)"
        r"|  fix    main\.py:13  HTTPServer\(\(\"0\.0\.0\.0\", int\(os\.environ\[\"PORT\"\]\)\), Handler\)",
    )
    assert shared_installation.hako("deploy", cwd=folder, check=False).returncode == 1
    shared_installation.hako("deploy", "--port", "5000", cwd=folder)


def test_a_failed_requirement_names_the_telling_line_and_the_requirement(
    shared_installation: Installation, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path, "draws", main_py=FLASK, requirements_txt="flask==3.1.2\n")
    shared_installation.deploy(folder)
    (folder / "requirements.txt").write_text("flask==3.1.2\n\n# draws\npygraphviz==1.14\n")

    _, error = fail(shared_installation, folder, code=51)

    matches(
        error,
        r"error: build failed in buildpack hako/python \d+\.\d+\.\d+: pygraphviz needs the C header "
        r"graphviz/cgraph\.h\. draws-00001 keeps 100 %, caches kept\.",
        r"  seen   \| .*fatal error: graphviz/cgraph\.h: No such file or directory"
        r"   \(line \d+ of \d+: hako builds log \d+\)",
        r"  fix    requirements\.txt:4 a build image with libgraphviz-dev",
    )
    status, _ = shared_installation.get(host="draws.localhost")
    assert status == 200


def test_a_folder_that_no_buildpack_knows_is_told_what_comes_close(
    shared_installation: Installation, tmp_path: Path
) -> None:
    folder = a_folder(tmp_path, "tool", notes_txt="notes\n")
    (folder / "backend").mkdir()
    (folder / "backend/pyproject.toml").write_text('[project]\nname = "x"\nversion = "1"\n')

    done = shared_installation.hako("deploy", cwd=folder, check=False)

    assert done.returncode == 20
    matches(
        done.stderr[done.stderr.index("error: ") :].splitlines(),
        r"error: no buildpack knows this folder \(\S*/tool, 2 files\)",
        r"  tried  hako/python: no requirements\.txt, pyproject\.toml, .* · hako/procfile: no Procfile.*",
        r"  close  \./backend has a pyproject\.toml → hako deploy --source backend",
        r"  fix    .*Procfile.*web: \./serve --port \$PORT.*",
    )


def test_a_crash_at_import_shows_the_exit_code_and_what_was_said_last(
    shared_installation: Installation, tmp_path: Path
) -> None:
    source = "import os\n\nos.environ['DATABASE_URL']\n"
    folder = a_folder(tmp_path, "crashes", main_py=source, Procfile=WEB)

    _, error = fail(shared_installation, folder)

    matches(
        error[:3],
        r"error: crashes-00001 exited with code 1 before it was ready\. Nothing serves yet\.",
        r"  seen   exited with code 1 after \d+\.\d s; .*",
        r"""  log    hako logs crashes --revision crashes-00001 · last: "KeyError: 'DATABASE_URL'\"""",
    )
    assert "         before:     os.environ['DATABASE_URL']" in error


def test_out_of_memory_at_start_names_the_limit(
    shared_installation: Installation, tmp_path: Path
) -> None:
    folder = a_folder(
        tmp_path, "greedy", main_py="kept = b'x' * (1 << 30)\nprint(len(kept))\n", Procfile=WEB
    )

    _, error = fail(shared_installation, folder, "--memory", "128Mi")

    matches(
        error[:3],
        r"error: greedy-00001 ran out of memory \(limit 128Mi\) before it was ready\. Nothing serves yet\.",
        r"  seen   ran out of memory \(limit 128Mi\) after \d+\.\d s; .*",
        r"  fix    hako deploy --memory …",
    )


def test_a_probe_that_is_answered_badly_shows_status_location_and_first_line(
    shared_installation: Installation, tmp_path: Path
) -> None:
    port = "int(os.environ['PORT'])"
    folder = a_folder(tmp_path, "sick", main_py=ANSWERS.format(status=503, port=port))

    _, error = fail(
        shared_installation, folder, "--startup-probe",
        "httpGet.path=/up,periodSeconds=1,failureThreshold=2",
    )  # fmt: skip

    matches(
        error[:2],
        r"error: sick-00001 did not pass its startup probe\. Nothing serves yet\.",
        r'  seen   alive \d+ s; GET /up answered 503, Location: /login, "the database is away"',
    )
    (folder / "main.py").write_text(ANSWERS.format(status=301, port=port))
    done = shared_installation.hako(
        "deploy", cwd=folder
    )  # a redirect is an answer, as on Cloud Run
    assert "sick-00002 gets 100 %" in done.stderr
