"""What goes into the environment: requirement files, lock files, keys, failures explained."""

import json
from pathlib import Path

import pytest
from hako_python.dependencies import dependencies_of, server_requirement
from hako_python.detect import main as detect
from hako_python.hints import explain_failure
from hako_python.layers import Layer, changed_inputs, to_toml
from hako_python.locks import read_lock
from hako_python.manifests import why_not_python
from hako_python.project import read_project
from hako_python.report import BuildpackError
from hako_python.requirements import has_hashes, local_paths, read_requirements
from hako_python.variables import check_refused


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_txt", ".txt").replace("_toml", ".toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_included_files_and_constraints_are_followed(tmp_path: Path) -> None:
    write(
        tmp_path,
        requirements_txt="-r base/common.txt\n-c limits.txt\nFlask[async]==3.1 # web\n",
        base__common_txt="requests>=2 ; python_version > '3'\n-r ../requirements.txt\n",
        limits_txt="idna<4\n",
    )

    files, found = read_requirements(tmp_path, "requirements.txt")

    assert files == ("requirements.txt", "base/common.txt", "limits.txt")
    assert [(r.name, r.file, r.line) for r in found] == [
        ("requests", "base/common.txt", 1),
        ("flask", "requirements.txt", 3),
    ]


def test_continued_lines_have_the_number_of_their_first(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="a==1 \\\n  --hash=sha256:00 \\\n  --hash=sha256:11\n\nb==2\n")

    files, found = read_requirements(tmp_path, "requirements.txt")

    assert [(r.name, r.line) for r in found] == [("a", 1), ("b", 5)]
    assert has_hashes(tmp_path, files)


def test_folders_of_the_source_are_noticed(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="-e .\n./libs/shared[x]\nflask\n-e ../other\n")

    assert local_paths(tmp_path, ("requirements.txt",)) == (".", "./libs/shared", "../other")


def test_comments_do_not_change_the_key_but_versions_do(tmp_path: Path) -> None:
    def inputs() -> str:
        project = read_project(tmp_path)
        return dependencies_of(project, {}, server="").inputs["requirements.txt"]

    write(tmp_path, requirements_txt="flask==3.1\n")
    first = inputs()
    write(tmp_path, requirements_txt="# the web framework\n\nflask==3.1  # pinned\n")
    assert inputs() == first
    write(tmp_path, requirements_txt="flask==3.2\n")
    assert inputs() != first


def test_a_changed_file_of_a_local_package_changes_the_key(tmp_path: Path) -> None:
    write(
        tmp_path,
        requirements_txt="./libs/shared\n",
        libs__shared__pyproject_toml="",
        libs__shared__a_txt="1",
    )
    before = dependencies_of(read_project(tmp_path), {}, server="").inputs
    write(tmp_path, libs__shared__a_txt="2")

    after = dependencies_of(read_project(tmp_path), {}, server="").inputs

    assert changed_inputs(before, after) == ("./libs/shared changed",)


def test_a_server_is_added_only_if_nobody_asks_for_it(tmp_path: Path) -> None:
    servers = {"gunicorn": "gunicorn==1"}
    write(tmp_path, requirements_txt="Gunicorn>=20\n")
    named = dependencies_of(read_project(tmp_path), {}, server="")
    write(tmp_path, requirements_txt="flask\n")
    unnamed = dependencies_of(read_project(tmp_path), {}, server="")

    assert server_requirement("gunicorn", named, servers) == ""
    assert server_requirement("gunicorn", unnamed, servers) == "gunicorn==1"


def test_a_miss_says_which_input_changed() -> None:
    before = {"requirements.txt": "sha256:1", "python": "3.12", "server": "gunicorn==1"}
    now = {"requirements.txt": "sha256:2", "python": "3.13", "UV_INDEX": "https://x"}

    assert changed_inputs(before, now) == (
        "UV_INDEX is new",
        "python 3.12 → 3.13",
        "requirements.txt changed",
        "server is gone",
    )


def test_layer_metadata_survives_being_written(tmp_path: Path) -> None:
    layer = Layer(tmp_path / "venv", launch=True, cache=True)
    metadata = {"inputs": {"a.txt": 'quo"te\\ \x7f ü', "b": "2"}, "packages": ["x==1"], "empty": []}

    layer.write(metadata)

    assert layer.kept_metadata() == metadata
    assert "launch = true\nbuild = false\ncache = true" in (tmp_path / "venv.toml").read_text()


def test_tables_in_lists_are_written_as_toml() -> None:
    assert to_toml({"processes": [{"type": "web", "command": ["a"], "default": True}]}) == (
        '[[processes]]\ntype = "web"\ncommand = ["a"]\ndefault = true\n'
    )


POETRY = """
[[package]]
name = "Flask"
version = "3.1.0"
groups = ["main"]
files = [{file = "a.whl", hash = "sha256:aa"}]
[[package]]
name = "colorama"
version = "0.4"
groups = ["main", "dev"]
markers = "platform_system == \\"Windows\\""
files = []
[[package]]
name = "pytest"
version = "8"
groups = ["dev"]
files = []
"""
OLD_POETRY = """
[[package]]
name = "flask"
version = "3.0"
files = []
[package.dependencies]
click = ">=8"
extra = {version = "*", optional = true}
[[package]]
name = "click"
version = "8"
files = []
[[package]]
name = "extra"
version = "1"
files = []
[[package]]
name = "pytest"
version = "7"
files = []
"""
PYLOCK = """
lock-version = "1.0"
[[packages]]
name = "flask"
version = "3.1"
marker = "python_version > '3'"
wheels = [{name = "f.whl", hashes = {sha256 = "aa"}}]
[[packages]]
name = "pytest"
version = "8"
marker = "'dev' in dependency_groups"
"""
PDM = """
[[package]]
name = "flask"
version = "3.1"
groups = ["default"]
files = [{file = "f.whl", hash = "sha256:aa"}]
[[package]]
name = "pytest"
version = "8"
groups = ["dev"]
"""
PIPFILE = json.dumps(
    {
        "default": {"flask": {"version": "==3.1", "hashes": ["sha256:aa"], "markers": "a"}},
        "develop": {"pytest": {"version": "==8"}},
    }
)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("poetry.lock", POETRY, "Flask==3.1.0 --hash=sha256:aa\ncolorama==0.4; platform_system == \"Windows\"\n"),
        ("poetry.lock", OLD_POETRY, "click==8\nflask==3.0\n"),
        ("pylock.toml", PYLOCK, "flask==3.1; python_version > '3' --hash=sha256:aa\n"),
        ("pdm.lock", PDM, "flask==3.1 --hash=sha256:aa\n"),
        ("Pipfile.lock", PIPFILE, "flask==3.1; a --hash=sha256:aa\n"),
    ],
)  # fmt: skip
def test_other_tools_locks_become_pinned_requirements(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    (tmp_path / name).write_text(text)
    pyproject = {"tool": {"poetry": {"dependencies": {"python": "^3.11", "Flask": "^3"}}}}

    assert read_lock(tmp_path, name, pyproject) == expected


def test_a_broken_lock_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "pdm.lock").write_text("[[package]]\nversion = 1\n")

    with pytest.raises(BuildpackError, match=r"pdm\.lock cannot be read"):
        read_lock(tmp_path, "pdm.lock", {})


def test_a_failed_build_names_the_line_of_the_requirement(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="flask\n\npsycopg2==2.9.10\n")
    said = [
        "Resolved 5 packages in 10ms",
        "  × Failed to build `psycopg2==2.9.10`",
        "  ├─▶ The build backend returned an error",
        "  ╰─▶ Call to `setuptools.build_meta:__legacy__.build_wheel` failed",
        "      [stderr]",
        "      Error: pg_config executable not found.",
        "      hint: This usually indicates a problem with the package.",
    ]

    error = explain_failure(said, tmp_path, ("requirements.txt",))

    assert str(error) == (
        "error: psycopg2 needs pg_config\n"
        "  seen: Error: pg_config executable not found.\n"
        "  fix: requirements.txt:3 psycopg2-binary (or psycopg[binary])"
    )


def test_a_contradiction_is_told_whole(tmp_path: Path) -> None:
    write(tmp_path, requirements_txt="flask==3.1.2\nwerkzeug==1.0\n")
    said = [
        "error: No solution found when resolving dependencies",
        "  cause: Because flask==3.1.2 depends on werkzeug>=3.1.0 and you require flask==3.1.2, we conclude A.",
        "         And because you require werkzeug==1.0, your requirements are unsatisfiable.",
    ]

    error = explain_failure(said, tmp_path, ("requirements.txt",))

    assert error.what == "the requirements cannot be fulfilled together"
    assert error.seen.startswith("Because flask==3.1.2 depends")
    assert error.seen.endswith("your requirements are unsatisfiable.")
    assert error.fix == "requirements.txt:1 check this requirement"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("  cause: dns error: failed to lookup", "the package index cannot be reached"),
        ("  cause: invalid peer certificate: UnknownIssuer", "the package index's certificate is not trusted in the build"),
    ],
)  # fmt: skip
def test_failures_of_the_network_are_called_so(tmp_path: Path, line: str, what: str) -> None:
    assert explain_failure(["error: Failed", line], tmp_path, ()).what == what


def test_variables_that_would_move_the_installation_are_refused() -> None:
    with pytest.raises(BuildpackError, match="PIP_TARGET is set"):
        check_refused({"PIP_TARGET": "/tmp/x"})
    check_refused({"PIP_INDEX_URL": "https://x", "PIP_TARGET": ""})


@pytest.mark.parametrize(
    ("files", "env", "is_python"),
    [
        (["requirements.txt"], {}, True),
        (["pyproject.toml", "package.json"], {}, True),
        (["main.py"], {}, True),
        (["package.json", "tool.py"], {}, False),
        (["web/main.py"], {}, False),
        (["main.py"], {"GOOGLE_RUNTIME": "nodejs"}, False),
        (["package.json"], {"GOOGLE_RUNTIME": "python313"}, True),
        (["index.html"], {}, False),
    ],
)
def test_files_in_the_root_decide_whether_it_is_python(
    tmp_path: Path, files: list[str], env: dict[str, str], is_python: bool
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert (why_not_python(str(tmp_path), env) == "") is is_python


def test_detection_writes_the_plan_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    plan = str(tmp_path / "plan.toml")

    assert detect(["detect", "/platform", plan], {}) == 100
    assert "no requirements.txt" in capsys.readouterr().out

    Path("requirements.txt").touch()
    assert detect(["detect", "/platform", plan], {}) == 0
    assert 'name = "python"' in Path(plan).read_text()
