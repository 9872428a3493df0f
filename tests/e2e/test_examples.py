"""Every folder of `examples/`, deployed as it stands and asked for what it serves."""

from __future__ import annotations

import urllib.request

import pytest

from tests.e2e.installation import ROOT, Installation

pytestmark = pytest.mark.needs_root

EXAMPLES = ROOT / "examples"
# What each folder's service answers: path and body.
ANSWERS = {
    "procfile-shell": {"/": "Hello from perl.\n"},
    "python-django": {
        "/": "Hello from Django.\n",
        "/static/shop.css": "body { color: navy }\n",
    },
    "python-fastapi": {"/": '{"hello":"from FastAPI"}'},
    "python-procfile": {"/": "Hello from a Procfile.\n"},
    "python-pyproject": {"/": "Hello from a factory.\n"},
    "python-script": {"/": "Hello from the standard library.\n"},
    "python-uv-lock": {"/": "Hello from a locked project.\n"},
    "python-web": {"/": "Hello from python-web-00001.\n"},
}


def test_every_example_has_an_answer_here() -> None:
    assert sorted(ANSWERS) == sorted(folder.name for folder in EXAMPLES.iterdir())


@pytest.mark.parametrize("name", ANSWERS)
def test_an_example_is_deployed_and_answers(shared_installation: Installation, name: str) -> None:
    url = shared_installation.hako("deploy", cwd=EXAMPLES / name).stdout.strip()

    for path, body in ANSWERS[name].items():
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            assert answer.read().decode() == body


def test_another_process_of_an_example_is_run_from_the_same_image(
    shared_installation: Installation,
) -> None:
    shared_installation.hako("deploy", cwd=EXAMPLES / "python-procfile")

    worker = shared_installation.start(
        "container", "run", "--rm", "--entrypoint", "my-worker", "hako/apps/python-procfile"
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "working\n"
    finally:
        worker.kill()
        worker.communicate(timeout=30)
