"""The Procfile buildpack: processes as they are written."""

import subprocess
import tomllib
from pathlib import Path

import pytest
from hako_procfile.build import main as build

DETECT = Path(__file__).parents[3] / "buildpacks/procfile/bin/detect"


@pytest.fixture
def layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("app", "layers"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "app")
    return tmp_path / "layers"


def built(layers: Path, env: dict[str, str] | None = None) -> dict[str, object]:
    assert build(["build", str(layers)], {"CNB_LAYERS_DIR": str(layers), **(env or {})}) == 0
    return tomllib.loads((layers / "launch.toml").read_text())


def detect(**env: str) -> int:
    return subprocess.run([DETECT], env=env, stdout=subprocess.DEVNULL).returncode


def test_it_takes_part_if_somebody_says_how_the_app_starts(layers: Path) -> None:
    assert detect() == 100
    assert detect(GOOGLE_ENTRYPOINT=" ") == 100
    assert detect(GOOGLE_ENTRYPOINT="./run") == 0
    Path("Procfile").touch()
    assert detect() == 0


def test_processes_are_direct_where_no_shell_is_needed(layers: Path) -> None:
    Path("Procfile").write_text("web: ./serve --port 80\nmy-worker: ./work $QUEUE\n")

    document = built(layers)

    assert document["processes"] == [
        {"type": "web", "command": ["./serve", "--port", "80"], "default": True},
        {"type": "my-worker", "command": ["bash", "-c", "./work $QUEUE"]},
    ]
    assert document["labels"] == [
        {
            "key": "com.hakobune.run-image.needs.procfile",
            "value": '{"commands": ["bash"], "libraries": []}',
        }
    ]


def test_google_entrypoint_is_the_web_process_whatever_the_procfile_says(layers: Path) -> None:
    Path("Procfile").write_text("web: ./serve\nworker: ./work\n")

    document = built(layers, {"GOOGLE_ENTRYPOINT": "./other"})

    assert [p["command"] for p in document["processes"]] == [["./other"], ["./work"]]  # type: ignore[index,attr-defined] # TOML


def test_a_procfile_without_any_process_fails_in_words(
    layers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("Procfile").write_text("nothing here\n")

    assert build(["build", str(layers)], {}) == 1

    assert "error: the Procfile names no process" in capsys.readouterr().err
