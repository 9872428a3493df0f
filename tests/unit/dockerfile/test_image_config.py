"""What instructions do to a configuration, and the times of its history."""

from __future__ import annotations

import pytest

from hakobune.dockerfile.image_config import (
    apply,
    begin_stage,
    date_history,
    new_working_dir,
    run_created_by,
    scratch_config,
    set_env,
    with_history,
    working_dir,
)
from hakobune.dockerfile.instructions import Healthcheck, Instruction, Position
from hakobune.dockerfile.parse import parse
from hakobune.dockerfile.substitute import substitute
from hakobune.oci.config import ContainerConfig, ImageConfig, RootFs
from hakobune.oci.platform import Platform

AT = Position("Dockerfile", 1, 1)


def instruction(text: str) -> Instruction:
    (stage,) = parse(f"FROM x\n{text}\n", "Dockerfile").stages
    return substitute(stage.instructions[0], {}).instruction


def a_config(**changes: object) -> ImageConfig:
    config = ContainerConfig(**changes)  # type: ignore[arg-type] # the caller's words
    return ImageConfig(architecture="amd64", os="linux", config=config, rootfs=RootFs())


def test_a_variable_keeps_its_place() -> None:
    assert set_env(("A=1", "B=2"), "A", "3") == ("A=3", "B=2")
    assert set_env(("A=1",), "AB", "") == ("A=1", "AB=")


def test_a_base_without_a_path_gets_one_and_its_triggers_are_gone() -> None:
    config = begin_stage(a_config(env=("A=1",), on_build=("RUN x",)))

    assert config.config.env[0] == "A=1"
    assert config.config.env[1].startswith("PATH=/usr/local/sbin:")
    assert config.config.on_build == ()


def test_entrypoint_drops_a_command_that_came_from_elsewhere() -> None:
    base = a_config(cmd=("old",))

    assert apply(base, instruction('ENTRYPOINT ["x"]')).config.cmd == ()
    assert apply(base, instruction('ENTRYPOINT ["x"]'), cmd_is_set=True).config.cmd == ("old",)


def test_a_shell_form_stands_behind_the_shell() -> None:
    shell = apply(a_config(), instruction('SHELL ["/bin/bash", "-c"]'))

    assert apply(shell, instruction("CMD a b")).config.cmd == ("/bin/bash", "-c", "a b")


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(0, "0s"), (500_000_000, "500ms"), (1_500, "1.5µs"), (5 * 10**9, "5s"), (90 * 10**9, "1m30s"), (3_600 * 10**9, "1h0m0s"), (1_500_000_000, "1.5s")],
)  # fmt: skip
def test_the_history_shows_durations_as_go_does(nanoseconds: int, shown: str) -> None:
    check = Healthcheck(at=AT, text="", test=("CMD", "x"), interval_ns=nanoseconds)

    created_by = apply(a_config(), check).history[-1].created_by

    assert f"Interval:{shown} " in created_by


def test_arguments_stand_in_the_history_of_a_command() -> None:
    assert (
        run_created_by(("/bin/sh", "-c", "x"), {"A": "1", "B": ""}) == "RUN |2 A=1 B= /bin/sh -c x"
    )
    assert run_created_by(("x",), {}) == "RUN x"


def test_a_line_without_a_layer_is_as_old_as_the_layer_before_it() -> None:
    config = scratch_config(Platform("linux", "amd64"))
    for line, layer in (("a", False), ("b", True), ("c", False), ("d", True)):
        config = with_history(config, line, layer=layer)

    dated = date_history(config, ["T1", "T2"], before=0, base_created="T0")

    assert [entry.created for entry in dated.history] == ["T0", "T1", "T1", "T2"]
    assert dated.created == "T2"


def test_working_directories_are_seen_from_the_last_one() -> None:
    config = a_config(working_dir="/a/b")

    assert working_dir(config, "../c") == "/a/c"
    assert working_dir(config, "/x/./y/") == "/x/y"
    assert working_dir(a_config(), "x") == "/x"
    assert new_working_dir(config, "/x/") == "/x/"
