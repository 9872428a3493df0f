from __future__ import annotations

import base64
from typing import Any

import pytest

from hakobune.runtime.bundle import CAPABILITIES, Surroundings, make_config
from hakobune.runtime.container import ContainerSpec, Mount, User

PLACE = Surroundings(
    root="/run/root",
    userns="/proc/5/fd/7",
    netns="/proc/5/fd/8",
    files={"/etc/hosts": "/run/hosts"},
    volumes=("/run/0", "/run/1"),
    open_files=20000,
    seccomp=b"\1\2",
)


def config(place: Surroundings = PLACE, **changes: Any) -> dict[str, Any]:
    spec = ContainerSpec(id="web", lowers=("/l",), argv=("/srv", "x"), **changes)
    return make_config(spec, place)


def test_namespaces_are_joined_by_path_and_nothing_is_mapped() -> None:
    linux = config()["linux"]

    assert {"type": "user", "path": "/proc/5/fd/7"} in linux["namespaces"]
    assert {"type": "network", "path": "/proc/5/fd/8"} in linux["namespaces"]
    kinds = {namespace["type"] for namespace in linux["namespaces"]}
    assert kinds == {"mount", "pid", "ipc", "uts", "cgroup", "network", "user"}
    assert not {"uidMappings", "gidMappings", "resources", "seccomp", "cgroupsPath"} & set(linux)


def test_the_compiled_filter_goes_into_the_annotation() -> None:
    bpf = config()["annotations"]["run.oci.seccomp_bpf_data"]

    assert base64.b64decode(bpf) == b"\1\2"


@pytest.mark.parametrize(("uid", "held"), [(0, list(CAPABILITIES)), (1002, [])])
def test_only_root_holds_capabilities(uid: int, held: list[str]) -> None:
    process = config(user=User(uid, 1))["process"]

    assert process["capabilities"] == {
        "bounding": list(CAPABILITIES),
        "effective": held,
        "permitted": held,
    }
    assert process["noNewPrivileges"] is True
    assert "CAP_NET_RAW" not in CAPABILITIES
    assert "CAP_SYS_ADMIN" not in CAPABILITIES


@pytest.mark.parametrize(("own", "expected"), [(20000, (1024, 20000)), (512, (512, 512))])
def test_limits_never_rise_above_our_own(own: int, expected: tuple[int, int]) -> None:
    import dataclasses

    (limit, core) = config(dataclasses.replace(PLACE, open_files=own))["process"]["rlimits"]

    assert (limit["type"], limit["soft"], limit["hard"]) == ("RLIMIT_NOFILE", *expected)
    assert (core["type"], core["hard"]) == ("RLIMIT_CORE", 0)


def test_path_and_hostname_have_defaults_that_the_image_overrides() -> None:
    plain = dict(item.split("=", 1) for item in config()["process"]["env"])
    own = dict(item.split("=", 1) for item in config(env={"PATH": "/x"})["process"]["env"])

    assert plain["PATH"].endswith("/bin")
    assert plain["HOSTNAME"] == "web"
    assert own["PATH"] == "/x"


def test_small_files_are_read_only_and_volumes_come_in_order_of_depth() -> None:
    mounts = (
        Mount(target="/data/deep", source="/b"),
        Mount(target="/data", source="/a", read_only=True),
        Mount(target="/scratch", size_bytes=4096),
    )

    found = {mount["destination"]: mount for mount in config(mounts=mounts)["mounts"]}

    assert found["/etc/hosts"]["options"] == ["bind", "ro", "nosuid", "nodev", "noexec"]
    assert found["/data"]["source"] == "/run/0"
    assert "ro" in found["/data"]["options"]
    assert found["/data/deep"]["source"] == "/run/1"
    assert "size=4096" in found["/scratch"]["options"]
    order = list(found)
    assert order.index("/data") < order.index("/data/deep")
