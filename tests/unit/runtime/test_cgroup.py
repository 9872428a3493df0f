from __future__ import annotations

from hakobune.runtime.cgroup_limits import Limits, limit_files
from hakobune.runtime.cgroup_mounts import MountPoint, parse_mounts

HYBRID = """31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
"""
LIMITS = Limits(memory_bytes=64 << 20, cpus=0.5, pids=50, cpu_weight=10)


def test_hierarchies_are_found_with_controllers_and_options() -> None:
    assert parse_mounts(HYBRID) == (
        MountPoint("/sys/fs/cgroup/cpu,cpuacct", ("rw", "cpu", "cpuacct")),
        MountPoint("/sys/fs/cgroup/unified", None, "rw,nsdelegate"),
    )


def test_limits_in_version_two() -> None:
    files = limit_files(LIMITS, {"memory": 2, "cpu": 2, "pids": 2})

    assert files == (
        ("memory", "memory.max", "67108864"),
        ("memory", "memory.swap.max", "0"),
        ("cpu", "cpu.max", "50000 100000"),
        ("cpu", "cpu.weight", "10"),
        ("pids", "pids.max", "50"),
    )


def test_limits_in_version_one() -> None:
    files = limit_files(LIMITS, {"memory": 1, "cpu": 1, "pids": 1})

    assert files == (
        ("memory", "memory.limit_in_bytes", "67108864"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", "cpu.shares", "102"),
        ("pids", "pids.max", "50"),
    )


def test_a_controller_that_is_missing_is_passed_over() -> None:
    assert limit_files(LIMITS, {"pids": 1}) == (("pids", "pids.max", "50"),)
    assert limit_files(Limits(), {"memory": 2, "cpu": 2, "pids": 2}) == ()


def test_a_tiny_share_of_a_cpu_is_one_that_the_kernel_takes() -> None:
    (_, (_, _, quota)) = limit_files(Limits(cpus=0.001), {"cpu": 1})

    assert quota == "1000"
