"""The memory limit of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.process.memory import memory_limit
from tests.control_groups import simulated_machine


@pytest.mark.parametrize(
    ("lines", "limits"),
    [
        ("0::/\n", {"memory.max": "1000"}),
        ("0::/pod/box\n", {"memory.max": "max", "pod/memory.max": "1000", "pod/box/memory.max": "2000"}),
        ("4:memory:/box\n", {"memory/memory.limit_in_bytes": f"{1 << 62}", "memory/box/memory.limit_in_bytes": "1000"}),
    ],
)  # fmt: skip
def test_the_smallest_limit_of_all_enclosing_groups_counts(lines: str, limits: dict[str, str], tmp_path: Path) -> None:
    files = {name: f"{limit}\n" for name, limit in limits.items()}
    assert memory_limit(simulated_machine(tmp_path, lines, files)) == 1000


def test_without_a_limit_it_is_the_memory_of_the_machine(tmp_path: Path) -> None:
    machine = memory_limit(tmp_path)
    assert machine > 1_000_000_000
    assert memory_limit(simulated_machine(tmp_path, "0::/\n", {"memory.max": "max\n"})) == machine
