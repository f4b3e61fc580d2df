"""Runtimes do not leak memory, because servers run for months."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.runtimes import Runtime
from tests.contract.network import INPUT, crops

RUNS = 300
ROUNDS = 3
PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * PAGE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc to see how much memory a process has")
def test_memory_stays_flat_over_many_runs(runtime: Runtime) -> None:
    batches = [crops(n) for n in range(1, runtime.spec.max_batch + 1)]

    def run(times: int) -> int:
        """Return the size of all outputs in bytes."""
        outputs = (runtime.run({INPUT: batches[n % len(batches)]}) for n in range(times))
        return sum(array.nbytes for given in outputs for array in given.values())

    run(RUNS)
    growth = []  # per round; memory kept by pools is reused in the next round, while a leak continues
    for _ in range(ROUNDS):
        before = _resident()
        returned = run(RUNS)
        growth.append(_resident() - before)
    assert min(growth) < returned / 4, f"of {returned} bytes that came out of each round, {growth} are still here"
