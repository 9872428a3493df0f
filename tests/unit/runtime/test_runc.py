"""What runc wants otherwise than crun, as documents."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from hakobune.runtime.container import ContainerError
from hakobune.runtime.crun import explain_create_failure, hierarchies_of, open_runtime
from hakobune.runtime.runc import Runc
from hakobune.runtime.seccomp import MACHINES, SeccompError, compiled_filter, profile
from hakobune.runtime.slot import IdRange


@pytest.fixture
def runc(tmp_path: Path) -> Runc:
    runc = Runc(tmp_path / "state", binary="/bin/true")
    os.close(runc.fd)
    return runc


def _config() -> dict[str, Any]:
    return {"linux": {}, "annotations": {"run.oci.seccomp_bpf_data": "x"}}


def test_a_bundle_gets_id_mappings_a_group_and_a_filter_of_its_own(runc: Runc) -> None:
    config = _config()

    runc.adapt(config, IdRange(100000), "hako/containers/web")

    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    assert config["linux"]["uidMappings"] == config["linux"]["gidMappings"] == mapping
    assert config["linux"]["cgroupsPath"] == "/hako/containers/web"
    assert config["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "annotations" not in config


def test_where_the_kernel_has_no_filters_it_gets_none(runc: Runc) -> None:
    config: dict[str, Any] = {"linux": {}}

    runc.adapt(config, IdRange(100000), "g")

    assert "seccomp" not in config["linux"]


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_as_a_document_allows_what_the_compiled_one_does(machine: str) -> None:
    document = profile(machine)

    plain = set(document["syscalls"][0]["names"])
    assert {"read", "openat", "execve"} <= plain
    assert not plain & {"mount", "unshare", "setns", "clone", "clone3", "bpf", "socket"}
    guarded = {call["names"][0]: call for call in document["syscalls"][1:]}
    assert guarded["clone"]["args"][0]["op"] == "SCMP_CMP_MASKED_EQ"
    assert guarded["clone3"]["errnoRet"] == errno.ENOSYS
    assert len(compiled_filter(machine)) > 0


def test_there_is_no_document_for_an_unknown_machine() -> None:
    with pytest.raises(SeccompError, match="s390x"):
        profile("s390x")


def test_the_pid_is_read_from_its_own_state(runc: Runc, tmp_path: Path) -> None:
    (tmp_path / "state/web").mkdir(parents=True)
    (tmp_path / "state/web/state.json").write_text(json.dumps({"init_process_pid": 7}))

    assert runc.read_pid("web") == 7


def test_starting_reads_what_the_waiting_process_writes(runc: Runc, tmp_path: Path) -> None:
    (tmp_path / "state/web").mkdir(parents=True)
    fifo = tmp_path / "state/web/exec.fifo"
    os.mkfifo(fifo)
    waiting = threading.Thread(target=lambda: fifo.write_text("0"))
    waiting.start()

    runc.start("web")

    waiting.join(10)
    assert not waiting.is_alive()
    assert not fifo.exists()
    with pytest.raises(ContainerError) as error:
        runc.start("web")
    assert error.value.kind == "phase"


def test_only_runc_insists_on_further_hierarchies() -> None:
    assert hierarchies_of("crun") == ()
    assert set(hierarchies_of("runc")) == {"cpuacct", "freezer", "devices"}


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (r"exec: \"/nope\": stat /nope: no such file or directory", "no_command"),
        (r"exec: \"nope\": executable file not found in $PATH", "no_command"),
        (r"exec: \"/nope\": permission denied", "not_executable"),
        ("something else", "failed"),
    ],
)
def test_its_complaints_are_understood(message: str, kind: str) -> None:
    log = (
        'time="2026-11-25T14:10:00Z" level=warning msg="container\'s cgroup is not empty"\n'
        f'time="2026-11-25T14:10:00Z" level=error msg="runc create failed: {message}"\n'
    )

    error = explain_create_failure(log, "nope" if '"nope' in message else "/nope", "runc")

    assert error.kind == kind
    if kind == "failed":
        assert error.why == "runc: runc create failed: something else"


def test_a_runtime_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hakobune.runtime.crun.SEARCH_PATH", str(tmp_path))

    with pytest.raises(ContainerError, match="no `runc`"):
        open_runtime("runc", tmp_path / "state")
