"""The cores that a container may use, with simulated and with real control groups."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from engines.cores import cpu_quota, usable_cores
from tests.control_groups import simulated_machine

GROUPS = Path("/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        pytest.param("0::/\n", {"cpu.max": "200000 100000\n"}, 2, id="v2, a container of its own"),
        pytest.param("0::/\n", {"cpu.max": "50000 100000\n"}, 0.5, id="v2, a part of a core"),
        pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, inf, id="v2, without a limit"),
        pytest.param(
            "0::/a/b\n", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1.5, id="v2, around"
        ),
        pytest.param(
            "5:memory:/\n4:cpu,cpuacct:/docker/abc\n",
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
            id="v1, the host's path in a container",
        ),
        pytest.param(
            "1:cpu:/x\n0::/\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, inf, id="v1"
        ),
        pytest.param("2:cpuset:/\n", {"cpu.max": "100000 100000\n"}, inf, id="other controllers alone"),
    ],
)
def test_the_lowest_quota_of_all_parent_groups_applies(
    tmp_path: Path, groups: str, files: dict[str, str], cpus: float
) -> None:
    assert cpu_quota(simulated_machine(tmp_path, groups, files)) == cpus


def test_without_control_groups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) == inf


def test_without_a_lower_quota_all_cores_of_the_mask_are_used() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
    assert usable_cores(sharers=10**6) == (1 if cpu_quota() < inf else usable_cores())


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group with a quota of 1.25 CPUs."""
    v2 = (GROUPS / "cgroup.controllers").exists()
    made = (GROUPS if v2 else GROUPS / "cpu") / f"posewire-test-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"needs to make control groups: {error.strerror}")
    try:
        try:
            (made / ("cpu.max" if v2 else "cpu.cfs_quota_us")).write_text("125000 100000" if v2 else "125000", "utf-8")
        except OSError as error:
            pytest.skip(f"control groups have no quota here: {error.strerror}")
        yield made
    finally:
        made.rmdir()


def test_a_real_quota_is_read(group: Path) -> None:
    script = "from engines.cores import *; print(cpu_quota(), usable_cores(), usable_cores(2))"
    enter = 'echo $$ > "$1"/cgroup.procs && exec "$2" -c "$3"'
    done = subprocess.run(
        ["sh", "-c", enter, "sh", group, sys.executable, script], capture_output=True, encoding="utf-8", check=True
    )
    cores = len(os.sched_getaffinity(0))
    assert done.stdout.split() == ["1.25", str(min(2, cores)), "1"]
