"""The memory limit of a process, and huge pages."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.process.memory import memory_limit, use_huge_pages
from tests.control_groups import simulated_machine

SIZE = 32 << 20


@pytest.fixture
def memory() -> NDArray[np.uint8]:
    """SIZE bytes of private memory, none of them touched yet."""
    use_huge_pages()
    if not re.search(r"^AnonHugePages: +[1-9]", Path("/proc/self/smaps_rollup").read_text("ascii"), re.MULTILINE):
        pytest.skip("this kernel moves nothing onto huge pages (Linux 6.1 and later do)")
    mapped = mmap.mmap(-1, SIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    mapped.madvise(mmap.MADV_NOHUGEPAGE)  # else the kernel may use huge pages from the start
    return np.frombuffer(mapped, np.uint8)


def kilobytes(what: str, memory: NDArray[np.uint8]) -> int:
    """Return a value of /proc/self/smaps, summed over the mappings of `memory`."""
    found = 0
    start = memory.ctypes.data
    for entry in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text("utf-8", "replace")):
        low, high = (int(address, 16) for address in entry.split(maxsplit=1)[0].split("-"))
        if low < start + SIZE and high > start:
            line = re.search(rf"^{what}: +(\d+) kB", entry, re.MULTILINE)
            assert line is not None
            found += int(line[1])
    return found


def test_full_memory_moves_onto_huge_pages_with_its_content(memory: NDArray[np.uint8]) -> None:
    memory[:] = np.arange(SIZE, dtype=np.uint32).view(np.uint8)[:SIZE]
    before = memory.copy()
    assert kilobytes("AnonHugePages", memory) == 0
    use_huge_pages()
    assert kilobytes("AnonHugePages", memory) >= 0.8 * SIZE / 1024  # all but its ends
    np.testing.assert_array_equal(memory, before)


def test_sparsely_used_memory_does_not_move(memory: NDArray[np.uint8]) -> None:
    """Thread stacks and memory pools reserve more than they use."""
    memory[:: 2 * mmap.PAGESIZE] = 1
    before = kilobytes("Rss", memory)
    use_huge_pages()
    assert kilobytes("Rss", memory) == before
    assert kilobytes("AnonHugePages", memory) == 0


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
