"""Many threads at once: each gets its own results, however batches and copies overlap."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engines.runtimes import Runtime, RuntimeClosedError
from tests.contract.backends import Backend
from tests.contract.network import HEATMAPS, INPUT, crops, expected, normalised

THREADS = 6
NEAR = 2e-4


def test_interleaved_calls_of_all_sizes_are_never_mixed(runtime: Runtime) -> None:
    batches = [crops(1 + seed % 4, seed) for seed in range(8 * THREADS)]
    want = [expected(normalised(batch))[HEATMAPS] for batch in batches]
    start = threading.Barrier(THREADS)

    def every_sixth(first: int) -> list[np.ndarray]:
        start.wait(timeout=60)
        return [runtime.run({INPUT: batch})[HEATMAPS] for batch in batches[first::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        got = list(pool.map(every_sixth, range(THREADS)))
    for index, right in enumerate(want):
        np.testing.assert_allclose(got[index % THREADS][index // THREADS], right, atol=NEAR)


def test_a_refused_call_does_not_affect_concurrent_calls(runtime: Runtime) -> None:
    batch = crops(2)
    want = expected(normalised(batch))[HEATMAPS]

    def turn(number: int) -> np.ndarray | None:
        if number % 2:
            with pytest.raises(ValueError, match="a batch has"):
                runtime.run({INPUT: crops(0)})
            return None
        return runtime.run({INPUT: batch})[HEATMAPS]

    with ThreadPoolExecutor(THREADS) as pool:
        for got in pool.map(turn, range(4 * THREADS)):
            if got is not None:
                np.testing.assert_allclose(got, want, atol=NEAR)


def test_runtimes_can_be_opened_concurrently(backend: Backend, tmp_path: Path) -> None:
    folders = [tmp_path / str(n) for n in range(3)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(3) as pool:
        runtimes = list(pool.map(backend.open, folders))
    batch = crops(2)
    want = expected(normalised(batch))[HEATMAPS]
    for runtime in runtimes:
        np.testing.assert_allclose(runtime.run({INPUT: batch})[HEATMAPS], want, atol=NEAR)
        runtime.close()


def test_a_runtime_opens_and_closes_while_another_runs(runtime: Runtime, opened: Callable[..., Runtime]) -> None:
    """As when a new plan replaces a runtime: neither disturbs the other on the device."""
    batch = crops(2)
    want = expected(normalised(batch))[HEATMAPS]
    done = threading.Event()

    def work() -> list[np.ndarray]:
        results = [runtime.run({INPUT: batch})[HEATMAPS]]
        while not done.is_set():
            results.append(runtime.run({INPUT: batch})[HEATMAPS])
        return results[-100:]

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(work) for _ in range(2)]
        try:
            other = opened(max_batch=2)
            np.testing.assert_allclose(other.run({INPUT: batch})[HEATMAPS], want, atol=NEAR)
            other.close()
        finally:
            done.set()
        for each in working:
            for got in each.result(timeout=60):
                np.testing.assert_allclose(got, want, atol=NEAR)


def test_closing_waits_for_calls_under_way_and_refuses_later_ones(opened: Callable[..., Runtime]) -> None:
    runtime = opened()
    batch = crops(4)
    want = expected(normalised(batch))[HEATMAPS]
    begun = threading.Barrier(THREADS + 1)

    def until_closed() -> list[np.ndarray]:
        results = [runtime.run({INPUT: batch})[HEATMAPS]]
        begun.wait(timeout=60)
        while True:
            try:
                results.append(runtime.run({INPUT: batch})[HEATMAPS])
            except RuntimeClosedError:
                return results

    with ThreadPoolExecutor(THREADS) as pool:
        running = [pool.submit(until_closed) for _ in range(THREADS)]
        begun.wait(timeout=60)
        runtime.close()
        results = [result for each in running for result in each.result(timeout=60)]
    for result in results:
        np.testing.assert_allclose(result, want, atol=NEAR)


def test_closing_twice_is_allowed_and_a_closed_runtime_raises(opened: Callable[..., Runtime]) -> None:
    runtime = opened(max_batch=1)
    runtime.close()
    runtime.close()
    runtime.release()
    with pytest.raises(RuntimeClosedError, match="closed"):
        runtime.run({INPUT: crops(1)})
