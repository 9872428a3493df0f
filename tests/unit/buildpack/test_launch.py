import tomllib

import pytest

from hakobune.buildpack.build_metadata import build_metadata
from hakobune.buildpack.descriptor import BuildpackApi, GroupElement
from hakobune.buildpack.document import InvalidDocumentError
from hakobune.buildpack.launch import (
    Label,
    LaunchMetadata,
    LaunchToml,
    Process,
    Processes,
    Slice,
    encode_launch_metadata,
    labels_of,
    merge_processes,
    parse_launch_toml,
)
from hakobune.buildpack.layer_metadata import encode_label


def parse(text: str, *, api: tuple[int, int] = (0, 12)) -> LaunchToml:
    return parse_launch_toml(
        text.encode(), name="launch.toml", api=BuildpackApi(*api), buildpack_id="hako/x"
    )


def problems(text: str, *, api: tuple[int, int] = (0, 12)) -> tuple[str, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        parse(text, api=api)
    return caught.value.problems


def process(type_: str, *, default: bool = False, command: str = "run") -> Process:
    return Process(type=type_, command=(command,), default=default)


def test_a_process_has_an_array_as_command_and_starts_directly() -> None:
    launch = parse(
        '[[processes]]\ntype = "web"\ncommand = ["gunicorn", "app"]\nargs = ["-b", ":8080"]\n'
        'default = true\nworking-dir = "/srv"\nexec-env = ["test"]\n'
    )

    assert launch.processes == (
        Process(
            type="web",
            command=("gunicorn", "app"),
            args=("-b", ":8080"),
            direct=True,
            default=True,
            buildpack_id="hako/x",
            working_dir="/srv",
            exec_env=("test",),
        ),
    )


def test_before_0_9_a_command_is_a_string_for_a_shell() -> None:
    launch = parse('[[processes]]\ntype = "web"\ncommand = "run me"\n', api=(0, 8))

    assert launch.processes[0].command == ("run me",)
    assert not launch.processes[0].direct


def test_before_0_9_a_process_may_be_direct() -> None:
    text = '[[processes]]\ntype = "web"\ncommand = "run"\ndirect = true\n'

    assert parse(text, api=(0, 8)).processes[0].direct


def test_direct_is_refused_since_0_9() -> None:
    text = '[[processes]]\ntype = "web"\ncommand = ["run"]\ndirect = true\n'

    assert "processes start directly" in problems(text)[0]


def test_a_command_of_the_wrong_shape_is_refused_with_the_right_one() -> None:
    assert problems('[[processes]]\ntype = "web"\ncommand = "run"\n') == (
        'launch.toml:3: processes[1].command: is an array: command = ["run"]',
    )
    assert problems('[[processes]]\ntype = "web"\ncommand = ["run"]\n', api=(0, 8)) == (
        "launch.toml:3: processes[1].command: is a string in Buildpack API 0.8",
    )


def test_an_execution_environment_is_not_known_before_0_12() -> None:
    text = '[[processes]]\ntype = "web"\ncommand = ["run"]\nexec-env = ["test"]\n'

    assert parse(text, api=(0, 11)).processes[0].exec_env == ()


@pytest.mark.parametrize("type_", ["", "a/b", "a b", "a:b", "a|b", "a\\\\b", "a&b", "<a>"])
def test_process_types_hold_letters_digits_dots_underscores_and_dashes_only(type_: str) -> None:
    assert "may hold" in problems(f'[[processes]]\ntype = "{type_}"\ncommand = ["x"]\n')[0]


def test_two_defaults_in_one_buildpack_are_refused() -> None:
    text = (
        '[[processes]]\ntype = "a"\ncommand = ["x"]\ndefault = true\n'
        '[[processes]]\ntype = "b"\ncommand = ["x"]\ndefault = true\n'
    )

    assert "more than one process is the default: a, b" in problems(text)[0]


def test_an_empty_command_is_refused() -> None:
    assert "is empty" in problems('[[processes]]\ntype = "a"\ncommand = []\n')[0]


def test_slices_and_labels_are_read() -> None:
    launch = parse('[[slices]]\npaths = ["*.js"]\n[[labels]]\nkey = "k"\nvalue = "v"\n')

    assert launch.slices == (Slice(paths=("*.js",)),)
    assert launch.labels == (Label(key="k", value="v"),)


def test_a_later_process_of_the_same_type_wins_and_types_are_sorted() -> None:
    merged, lost = merge_processes(
        Processes((process("web"), process("worker"))),
        [process("web", command="other"), process("a")],
    )

    assert merged.types == ("a", "web", "worker")
    assert merged.processes[1].command == ("other",)
    assert lost == ()


def test_a_later_default_wins() -> None:
    merged, _ = merge_processes(Processes((process("web"),), "web"), [process("a", default=True)])

    assert merged.default == "a"


def test_redefining_the_default_without_saying_so_unsets_it() -> None:
    merged, lost = merge_processes(Processes((process("web"),), "web"), [process("web")])

    assert merged.default == ""
    assert lost == ("web",)


def test_redefining_the_default_as_the_default_keeps_it() -> None:
    merged, lost = merge_processes(
        Processes((process("web"),), "web"), [process("web", default=True)]
    )

    assert merged.default == "web"
    assert lost == ()


METADATA = LaunchMetadata(
    buildpacks=(GroupElement(id="hako/x", version="1", api="0.12", homepage="https://x.test"),),
    processes=Processes(
        (Process(type="web", command=("run", "x"), args=("y",), buildpack_id="hako/x"),), "web"
    ),
    slices=(Slice(paths=("a",)),),
    labels=(Label(key="k", value="v"),),
)


def test_metadata_toml_is_what_the_launcher_reads() -> None:
    assert tomllib.loads(encode_launch_metadata(METADATA).decode()) == {
        "buildpack-default-process-type": "web",
        "buildpacks": [
            {"id": "hako/x", "version": "1", "api": "0.12", "homepage": "https://x.test"}
        ],
        "labels": [{"key": "k", "value": "v"}],
        "processes": [
            {
                "type": "web",
                "command": ["run", "x"],
                "args": ["y"],
                "direct": True,
                "buildpack-id": "hako/x",
                "exec-env": ["*"],
            }
        ],
        "slices": [{"paths": ["a"]}],
    }


def test_metadata_toml_of_nothing_names_the_buildpacks_alone() -> None:
    metadata = LaunchMetadata(buildpacks=(GroupElement(id="a", version="1", api="0.10"),))

    assert tomllib.loads(encode_launch_metadata(metadata).decode()) == {
        "buildpacks": [{"id": "a", "version": "1", "api": "0.10"}]
    }


def test_the_build_metadata_label_has_upstreams_keys_in_upstreams_order() -> None:
    label = build_metadata(METADATA, launcher_version="0.1", repository="r", commit="c")

    assert encode_label(label) == (
        '{"buildpacks":[{"id":"hako/x","version":"1","homepage":"https://x.test"}],'
        '"launcher":{"version":"0.1","source":{"git":{"repository":"r","commit":"c"}}},'
        '"processes":[{"type":"web","command":["run","x"],"args":["y"],"direct":true,'
        '"buildpackID":"hako/x"}],"buildpack-default-process-type":"web"}'
    )


def test_of_labels_with_one_key_the_last_counts() -> None:
    assert labels_of([Label(key="a", value="1"), Label(key="a", value="2")]) == {"a": "2"}
