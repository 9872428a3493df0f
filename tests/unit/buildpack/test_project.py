import pytest

from hakobune.buildpack.document import InvalidDocumentError
from hakobune.buildpack.project import ProjectBuildpack, Script, parse_project

SCHEMA_2 = """
[_]
schema-version = "0.2"
id = "shop"
[_.metadata]
own = 1
[io.buildpacks]
builder = "hako/builder"
exclude = ["*.md"]
[[io.buildpacks.group]]
id = "hako/python"
version = "1"
[[io.buildpacks.pre.group]]
uri = "first"
[[io.buildpacks.post.group]]
id = "inline"
[io.buildpacks.post.group.script]
api = "0.10"
inline = "echo hi"
[[io.buildpacks.build.env]]
name = "A"
value = "1"
"""


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_project(text.encode(), name="project.toml")
    return caught.value.problems


def test_schema_0_2_is_read() -> None:
    project = parse_project(SCHEMA_2.encode(), name="project.toml")

    assert project.id == "shop"
    assert project.builder == "hako/builder"
    assert project.exclude == ("*.md",)
    assert project.buildpacks == (ProjectBuildpack(id="hako/python", version="1"),)
    assert project.pre == (ProjectBuildpack(uri="first"),)
    assert project.post == (
        ProjectBuildpack(id="inline", script=Script(api="0.10", inline="echo hi")),
    )
    assert project.build_env == (("A", "1"),)
    assert project.metadata == {"own": 1}


def test_schema_0_1_is_read() -> None:
    text = """
[project]
id = "shop"
[build]
include = ["src/"]
[[build.buildpacks]]
id = "a"
[[build.env]]
name = "A"
value = "1"
[metadata]
own = 1
"""

    project = parse_project(text.encode(), name="project.toml")

    assert project.id == "shop"
    assert project.include == ("src/",)
    assert project.buildpacks == (ProjectBuildpack(id="a"),)
    assert project.build_env == (("A", "1"),)
    assert project.metadata == {"own": 1}


def test_an_empty_descriptor_asks_for_nothing() -> None:
    project = parse_project(b"", name="project.toml")

    assert project.buildpacks == ()
    assert project.exclude == ()


def test_the_older_place_of_build_variables_is_understood() -> None:
    text = '[_]\nschema-version = "0.2"\n[[io.buildpacks.env.build]]\nname = "A"\nvalue = "1"\n'

    assert parse_project(text.encode(), name="project.toml").build_env == (("A", "1"),)


def test_entries_for_other_execution_environments_are_left_out() -> None:
    text = (
        '[_]\nschema-version = "0.3"\n[[io.buildpacks.group]]\nid = "t"\nexec-env = ["test"]\n'
        '[[io.buildpacks.build.env]]\nname = "A"\nvalue = "1"\nexec-env = ["test"]\n'
    )

    assert parse_project(text.encode(), name="p").buildpacks == ()
    assert parse_project(text.encode(), name="p").build_env == ()
    assert parse_project(text.encode(), name="p", exec_env="test").build_env == (("A", "1"),)


def test_include_and_exclude_exclude_each_other() -> None:
    text = '[build]\ninclude = ["a"]\nexclude = ["b"]\n'

    assert problems(text) == (
        "project.toml:3: build.exclude: include and exclude exclude each other",
    )


def test_other_tools_tables_are_left_alone_but_slips_in_our_own_are_not() -> None:
    text = '[_]\nschema-version = "0.2"\n[tool]\nx = 1\n[io.other]\ny = 1\n[io.buildpacks]\nexclud = []\n'

    assert problems(text) == (
        "project.toml:8: io.buildpacks.exclud: there is no such key (did you mean 'exclude'?)",
    )


def test_a_schema_of_the_future_is_refused() -> None:
    assert "'0.9' is not supported" in problems('[_]\nschema-version = "0.9"\n')[0]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ('version = "1"', "needs an id, a uri or a script"),
        ('uri = "x"\nversion = "1"', "version, uri and script exclude each other"),
    ],
)
def test_an_entry_says_one_thing(entry: str, problem: str) -> None:
    text = f'[_]\nschema-version = "0.2"\n[[io.buildpacks.group]]\n{entry}\n'

    assert problem in problems(text)[0]
