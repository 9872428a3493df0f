"""`hako build`: folders to images through the real builder, sandbox and network."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest

from hakobune.oci.manifest import Image
from hakobune.oci.reference import Reference
from hakobune.oci.store import Store
from tests.e2e.apps import FLASK
from tests.e2e.image_runner import ask, run_in_image
from tests.e2e.installation import ROOT, Installation, new_installation

pytestmark = pytest.mark.needs_root

EXAMPLES = ROOT / "examples"


def build(installation: Installation, source: Path, *flags: str, name: str = "web") -> str:
    """Build and return the digest."""
    done = installation.hako("build", name, "--path", str(source), *flags)
    return done.stdout.strip().rpartition("@")[2]


def said(installation: Installation, source: Path, *flags: str, name: str = "web") -> str:
    return installation.hako("build", name, "--path", str(source), *flags).stderr


def image(installation: Installation, name: str = "web") -> Image:
    with Store(installation.home) as store:
        found = store.find_image(Reference.parse(name))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("example", "answer"),
    [
        ("python-web", "Hello from no revision."),
        ("python-fastapi", '{"hello":"from FastAPI"}'),
        ("python-django", "Hello from Django."),
        ("python-uv-lock", "Hello from a locked project."),
        ("python-pyproject", "Hello from a factory."),
        ("python-script", "Hello from the standard library."),
        ("python-procfile", "Hello from a Procfile."),
    ],
)
def test_each_example_answers_and_its_second_build_finds_everything(
    shared_installation: Installation, seed_home: Path, example: str, answer: str
) -> None:
    first = build(shared_installation, EXAMPLES / example, name=f"example/{example}")

    assert answer in ask(shared_installation.home, f"example/{example}")

    again = said(shared_installation, EXAMPLES / example, "--rebuild", name=f"example/{example}")
    assert "Adding" not in again
    assert "uv" not in again.replace("uv-cache", "").replace("uvicorn", "").replace("uv.lock", "")
    assert str(image(shared_installation, f"example/{example}").digest) == first


@pytest.mark.parametrize("example", ["python-web", "python-fastapi", "python-script"])
def test_python_apps_run_on_the_image_without_a_shell(
    shared_installation: Installation, seed_home: Path, example: str
) -> None:
    name = f"tiny/{example}"
    build(shared_installation, EXAMPLES / example, "--run-image", "hako/base-tiny:13", name=name)

    assert "200 OK" in ask(shared_installation.home, name)
    size = sum(layer.size for layer in image(shared_installation, name).manifest.layers)
    assert size < 45_000_000


def test_a_command_that_needs_a_shell_is_refused_on_the_image_without_one(
    shared_installation: Installation, seed_home: Path
) -> None:
    command = ("build", "tiny/perl", "--path", str(EXAMPLES / "procfile-shell"))

    done = shared_installation.hako(*command, "--run-image", "hako/base-tiny:13", check=False)

    assert done.returncode == 1
    assert "the app cannot run on hako/base-tiny:13" in done.stderr
    assert "needs bash, which that run image does not have" in done.stderr
    assert "tiny/perl" not in shared_installation.hako("image", "ls").stdout


def test_a_procfile_alone_suffices(shared_installation: Installation, seed_home: Path) -> None:
    build(shared_installation, EXAMPLES / "procfile-shell", name="example/perl")

    with Store(shared_installation.home) as store:
        found = store.find_image(Reference.parse("example/perl"))
    assert found is not None
    assert found.config.config.entrypoint == ("/cnb/process/web",)
    metadata = json.loads(found.config.labels["io.buildpacks.build.metadata"])
    assert metadata["processes"][0]["command"] == ["bash", "-c", "exec perl server.pl $PORT"]


def test_nothing_changed_gives_the_last_image_without_running_anything(
    installation: Installation, app: Path
) -> None:
    first = build(installation, app)

    done = installation.hako("build", "web", "--path", str(app))

    assert "nothing that goes in has changed" in done.stderr
    assert "===>" not in done.stderr
    assert done.stdout.strip().endswith(f"@{first}")


def test_a_touched_file_with_the_same_contents_changes_nothing(
    installation: Installation, app: Path
) -> None:
    first = build(installation, app)
    os.utime(app / "main.py")
    os.utime(app / "requirements.txt", (1, 1))

    done = installation.hako("build", "web", "--path", str(app))

    assert "nothing that goes in has changed" in done.stderr
    assert first in done.stdout


def test_one_changed_line_installs_nothing_and_exports_the_app_alone(
    installation: Installation, app: Path
) -> None:
    build(installation, app)
    before = {layer.digest for layer in image(installation).manifest.layers}
    (app / "main.py").write_text(FLASK.replace("one", "two"))

    text = said(installation, app)

    assert "changed since the last build: main.py" in text
    assert "nothing they depend on has changed" in text
    assert "Installed" not in text
    new = [layer for layer in image(installation).manifest.layers if layer.digest not in before]
    assert len(new) == 1
    assert "two" in ask(installation.home, "web")


def test_a_changed_requirement_reconciles_the_environment_and_says_why(
    installation: Installation, app: Path
) -> None:
    build(installation, app)
    (app / "requirements.txt").write_text("flask==3.1.1\n")

    text = said(installation, app)

    assert "venv: installed by uv (requirements.txt changed)" in text
    assert "Uninstalled 1 package" in text
    assert "Resolved" in text
    output: list[bytes] = []
    argv = [
        "/cnb/lifecycle/launcher",
        "--",
        "python",
        "-c",
        "import importlib.metadata as m; print(m.version('flask'))",
    ]
    assert run_in_image(installation.home, "web", argv, output) == 0
    assert b"".join(output) == b"3.1.1\n"


def test_two_installations_make_the_same_image_of_the_same_source(
    installation: Installation, seed_home: Path, app: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "elsewhere" / "clone"
    shutil.copytree(app, clone)
    for path in clone.iterdir():
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o664)

    with new_installation(seed_home) as other:
        theirs = build(other, clone, name="web")

    assert build(installation, app) == theirs


def test_the_creation_time_is_the_only_thing_that_source_date_epoch_changes(
    installation: Installation, app: Path
) -> None:
    build(installation, app)
    layers = image(installation).manifest.layers

    build(installation, app, "--creation-time", "1700000000")

    assert image(installation).config.created == "2023-11-14T22:13:20Z"
    assert image(installation).manifest.layers == layers


def test_a_failing_requirement_is_named_with_its_line_and_nothing_is_lost(
    installation: Installation, app: Path
) -> None:
    first = build(installation, app)
    (app / "requirements.txt").write_text("flask==3.1.2\nno-such-package-hakobune==1\n")

    done = installation.hako("build", "web", "--path", str(app), check=False)

    assert done.returncode == 51
    assert (
        "error: build failed in buildpack hako/python 0.1.0: there is no package no-such-package-hakobune\n"
        in done.stderr
    )
    assert "  fix: requirements.txt:2 check this requirement" in done.stderr
    assert str(image(installation).digest) == first
    (app / "requirements.txt").write_text("flask==3.1.2\n")
    assert first in installation.hako("build", "web", "--path", str(app)).stdout


def test_a_folder_that_nobody_knows_says_who_was_asked(
    installation: Installation, tmp_path: Path
) -> None:
    (tmp_path / "notes.md").write_text("# notes\n")

    done = installation.hako("build", "web", "--path", str(tmp_path), check=False)

    assert done.returncode == 20
    assert "error: no buildpack knows this folder" in done.stderr
    assert "hako/python: no requirements.txt" in done.stderr
    assert "Procfile" in done.stderr


def test_nothing_is_written_to_the_source_folder(installation: Installation, app: Path) -> None:
    for path in app.iterdir():
        path.chmod(0o444)
    app.chmod(0o555)
    before = {str(p): os.lstat(p).st_mtime_ns for p in (app, *app.rglob("*"))}

    build(installation, app)

    assert {str(p): os.lstat(p).st_mtime_ns for p in (app, *app.rglob("*"))} == before
    app.chmod(0o755)


BUILDPACK = {
    "buildpack.toml": 'api = "0.12"\n[buildpack]\nid = "mine/own"\nversion = "1.2.3"\n',
    "bin/detect": "#!/bin/sh\nexit 0\n",
    "bin/build": (
        "#!/bin/sh\n"
        'echo "sees $GREETING $FROM_FILE $FROM_CALLER $HTTPS_PROXY"\n'
        'test -s "$SSL_CERT_FILE" && echo "trusts $SSL_CERT_FILE"\n'
        "id -u; cat /workspace/word\n"
        "touch /etc/x 2>/dev/null || echo cannot write to /etc\n"
        'printf \'[[processes]]\\ntype = "web"\\ncommand = ["/bin/cat", "word"]\\ndefault = true\\n\' > $CNB_LAYERS_DIR/launch.toml\n'
    ),
}


@pytest.fixture
def own_buildpack(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    for name, text in BUILDPACK.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return folder


def test_a_buildpack_folder_takes_the_place_of_the_builder_s_order(
    installation: Installation, own_buildpack: Path, tmp_path: Path
) -> None:
    source = tmp_path / "app"
    source.mkdir()
    (source / "word").write_text("hello\n")
    (tmp_path / "vars").write_text("# comment\nFROM_FILE=file\nGREETING=loses\n")
    bundle = tmp_path / "ca.crt"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    installation.extra_env = {
        "FROM_CALLER": "caller",
        "HTTPS_PROXY": "http://proxy:1",
        "SSL_CERT_FILE": str(bundle),
    }
    flags = ["--buildpack", str(own_buildpack), "--env", "GREETING=hi", "--env", "FROM_CALLER"]

    text = said(installation, source, *flags, "--env-file", str(tmp_path / "vars"))

    assert "mine/own 1.2.3" in text
    assert "sees hi file caller http://proxy:1" in text
    assert "trusts /platform/ca-certificates.crt" in text
    assert "\n1001\nhello\ncannot write to /etc\n" in text

    (own_buildpack / "bin/build").write_text("#!/bin/sh\nexit 7\n")
    failed = installation.hako("build", "web", "-p", str(source), *flags, check=False)
    assert failed.returncode == 51


def test_without_a_network_the_build_says_so(installation: Installation, app: Path) -> None:
    done = installation.hako("build", "web", "-p", str(app), "--network", "none", check=False)

    assert done.returncode == 51
    assert "the package index cannot be reached" in done.stderr


def test_another_process_can_be_the_default(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: /bin/true\nworker: /bin/echo working\n")

    build(installation, tmp_path, "--process-type", "worker", "--tag", "other/name:2")

    assert image(installation).config.config.entrypoint == ("/cnb/process/worker",)
    assert image(installation, "other/name:2").digest == image(installation).digest


def test_a_name_that_was_taken_away_comes_back_without_a_build(
    installation: Installation, app: Path
) -> None:
    first = build(installation, app)
    with Store(installation.home) as store:
        store.untag(Reference.parse("web"))

    again = installation.hako("build", "web", "--path", str(app))

    assert "===>" not in again.stderr
    assert str(image(installation).digest) == first


def test_a_cleared_cache_starts_from_nothing_and_ends_with_the_same_image(
    installation: Installation, app: Path
) -> None:
    first = build(installation, app)

    text = said(installation, app, "--clear-cache")

    assert "cpython: from the distribution's packages\n" in text
    assert str(image(installation).digest) == first


def test_list_source_shows_what_would_be_taken(installation: Installation, app: Path) -> None:
    (app / ".gitignore").write_text("*.log\n")
    (app / "x.log").touch()

    done = installation.hako("build", "--list-source", "--path", str(app))

    assert done.stdout.split() == [".gitignore", "main.py", "requirements.txt"]
    assert done.stderr == "1 left out by .gitignore\n"
    assert not (installation.home / "builds").exists()


def test_quiet_prints_the_result_alone_and_the_report_is_kept(
    installation: Installation, app: Path, tmp_path: Path
) -> None:
    flags = ["--quiet", "--report-output-dir", str(tmp_path / "report")]

    done = installation.hako("build", "web", "--path", str(app), *flags)

    assert done.stderr == ""
    report = tomllib.loads((tmp_path / "report/report.toml").read_text())
    assert done.stdout.strip().endswith(report["image"]["digest"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["web", "--path", "/nowhere"], 1, "there is no such folder"),
        (["web", "--builder", "no/builder"], 1, "the builder no/builder cannot be found"),
        (["web", "--buildpack", "no/buildpack"], 1, "there is no buildpack 'no/buildpack'"),
        (["web", "--run-image", "no/image"], 32, "the run image no/image cannot be found"),
        (["web", "--process-type", "nope"], 62, "nope"),
        (["web", "--env", "1x=2"], 2, "--env '1x=2' does not begin with a variable's name"),
        (["web", "--creation-time", "soon"], 2, "'soon' is no time"),
        (["--path", "."], 2, "needs the image's name"),
        (["web/UPPER", "--path", "."], None, "UPPER"),
    ],
)
def test_wrong_arguments_are_named(
    shared_installation: Installation,
    seed_home: Path,
    tmp_path: Path,
    arguments: list[str],
    code: int | None,
    message: str,
) -> None:
    (tmp_path / "Procfile").write_text("web: /bin/true\n")

    done = shared_installation.hako("build", *arguments, cwd=tmp_path, check=False)

    assert message in done.stderr
    assert done.returncode != 0
    assert code in (None, done.returncode)
    assert "Traceback" not in done.stderr
