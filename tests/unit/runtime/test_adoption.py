from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hakobune.runtime.adoption import (
    Fate,
    Found,
    Record,
    choose_fate,
    read_found,
    write_record,
    write_spec,
)
from hakobune.runtime.container import ContainerSpec, ContainerStatus, Phase

SPEC = ContainerSpec(id="web", lowers=("/l",), argv=("/srv",))


def a_record(phase: Phase, *, pid: int | None = 7, boot_id: str = "now") -> Record:
    status = ContainerStatus(id="web", phase=phase, pid=pid, start_time=9)
    return Record(status=status, boot_id=boot_id, base=1 << 20, cable="v", cable_index=3)


@pytest.mark.parametrize("phase", [Phase.CREATED, Phase.RUNNING, Phase.FROZEN])
def test_what_lives_is_adopted_in_every_phase(phase: Phase) -> None:
    assert choose_fate(Found("web", SPEC, a_record(phase)), boot_id="now", alive=True) is Fate.ADOPT


@pytest.mark.parametrize(
    ("boot_id", "alive"), [("now", False), ("before", True), ("before", False)]
)
def test_what_has_ended_or_ran_before_the_reboot_is_kept_as_stopped(
    boot_id: str, alive: bool
) -> None:
    found = Found("web", SPEC, a_record(Phase.RUNNING, boot_id=boot_id))

    assert choose_fate(found, boot_id="now", alive=alive) is Fate.ENDED


def test_what_had_stopped_is_kept() -> None:
    found = Found("web", SPEC, a_record(Phase.STOPPED, pid=None))

    assert choose_fate(found, boot_id="now", alive=False) is Fate.KEEP


@pytest.mark.parametrize(
    "found",
    [
        Found("web", None, None),
        Found("web", SPEC, None),
        Found("web", None, a_record(Phase.RUNNING)),
        Found("web", SPEC, a_record(Phase.CREATING, pid=None)),
    ],
)
def test_what_was_never_finished_is_discarded(found: Found) -> None:
    assert choose_fate(found, boot_id="now", alive=False) is Fate.DISCARD


def test_records_come_back_from_disk(tmp_path: Path) -> None:
    record = a_record(Phase.RUNNING)
    write_spec(tmp_path, SPEC)
    write_record(tmp_path, record)

    assert read_found(tmp_path) == Found(tmp_path.name, SPEC, record)


def test_the_process_that_keeps_a_terminal_is_remembered_too(tmp_path: Path) -> None:
    record = replace(a_record(Phase.RUNNING), attendant=(7, 8))
    write_record(tmp_path, record)

    assert read_found(tmp_path).record == record


def test_a_record_of_an_earlier_version_knows_of_none(tmp_path: Path) -> None:
    document = a_record(Phase.RUNNING).to_json()
    del document["attendant"]
    (tmp_path / "state.json").write_text(json.dumps(document))

    assert read_found(tmp_path).record == a_record(Phase.RUNNING)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status":{}}'])
def test_a_torn_file_is_as_good_as_none(tmp_path: Path, text: str) -> None:
    for name in ("spec.json", "state.json"):
        (tmp_path / name).write_text(text)

    assert read_found(tmp_path) == Found(tmp_path.name, None, None)
