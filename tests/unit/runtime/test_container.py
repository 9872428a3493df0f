from __future__ import annotations

import json

import pytest

from hakobune.runtime.container import (
    ContainerError,
    ContainerLimits,
    ContainerSpec,
    ContainerStatus,
    Mount,
    Phase,
    User,
)
from hakobune.runtime.event import Event, EventKind


def a_spec(**changes: object) -> ContainerSpec:
    fields: dict[str, object] = {"id": "web", "lowers": ("/l",), "argv": ("/srv",), **changes}
    return ContainerSpec(**fields)  # type: ignore[arg-type] # fields by name


def test_a_specification_survives_json() -> None:
    spec = a_spec(
        env={"PORT": "8080"},
        user=User(1002, 1000, (5, 6)),
        limits=ContainerLimits(memory_bytes=1 << 20, cpus=0.5, pids=7),
        mounts=(Mount(target="/data", source="/srv", read_only=True),),
        locks=("/l/lock",),
        labels={"a": "b"},
    )

    assert ContainerSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_supervisor_of_an_earlier_version_understands_what_it_can_do() -> None:
    plain = a_spec().to_json()
    attended = a_spec(interactive=True, terminal=True)

    assert not {"interactive", "terminal", "owned"} & plain.keys()
    assert ContainerSpec.from_json(json.loads(json.dumps(attended.to_json()))) == attended


def test_a_status_and_an_event_survive_json() -> None:
    status = ContainerStatus(id="web", phase=Phase.FROZEN, pid=7, start_time=8, address="10.0.0.1")
    event = Event(kind=EventKind.FROZEN, subject="web", time=1.5, status=status)

    assert Event.from_json(json.loads(json.dumps(event.to_json()))) == event


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": ""}, "an id is"),
        ({"id": "../up"}, "an id is"),
        ({"id": "UP"}, "an id is"),
        ({"id": "x" * 64}, "an id is"),
        ({"argv": ()}, "argv needs"),
        ({"argv": ("a\0b",)}, "NUL"),
        ({"lowers": ()}, "lowers needs"),
        ({"lowers": ("relative",)}, "absolute"),
        ({"cwd": "relative"}, "not absolute"),
        ({"env": {"A=B": "c"}}, "environment variable"),
        ({"env": {"A": "c\0"}}, "environment variable"),
        ({"mounts": (Mount(target="data"),)}, "mount target"),
        ({"mounts": (Mount(target="/data", source="data"),)}, "mount source"),
        ({"user": User(65536, 0)}, "0 to 65535"),
        ({"user": User(-1, 0)}, "0 to 65535"),
    ],
)
def test_what_no_container_can_be_is_refused_by_name(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ContainerError, match=words) as caught:
        a_spec(**changes).check()

    assert caught.value.kind == "invalid"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"id": "a"},
        {"id": "a", "lowers": ["/l"], "argv": ["x"], "colour": "red"},
        {"id": 7, "lowers": ["/l"], "argv": ["x"]},
        {"id": "a", "lowers": ["/l"], "argv": [7]},
        {"id": "a", "lowers": ["/l"], "argv": ["x"], "limits": {"speed": 1}},
        {"id": "a", "lowers": ["/l"], "argv": ["x"], "env": ["A=B"]},
    ],
)
def test_documents_of_the_wrong_shape_are_errors_in_words(document: dict[str, object]) -> None:
    with pytest.raises(ContainerError) as caught:
        ContainerSpec.from_json(document)

    assert caught.value.kind == "invalid"
