"""Concurrent batches on one device: copies and kernels overlap and batches are never mixed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.inputs import Arrays, TensorSpec
from engines.runtimes.tensorrt.driver import BufferLayout, CudaError
from engines.runtimes.tensorrt.dynamic_outputs import DynamicPipeline, OutputBuffer
from engines.runtimes.tensorrt.pipeline import BatchPipeline, Binding, Enqueue
from tests.engines.runtimes.tensorrt.simulated_driver import SimulatedDriver

INPUTS = (TensorSpec("a", (5,), np.dtype(np.uint8)), TensorSpec("b", (), np.dtype(np.float32)))
OUTPUTS = (TensorSpec("sum", (5,), np.dtype(np.float32)),)
BATCH_SIZES = (1, 2, 4)


def feeds(count: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {"a": rng.integers(0, 99, (count, 5), np.uint8), "b": rng.integers(0, 99, count).astype(np.float32)}


def right(given: Arrays) -> NDArray[np.float32]:
    return given["a"].astype(np.float32) + given["b"][:, None]


def adder(driver: SimulatedDriver, *, capturable: bool = True) -> Binding:
    """A network that adds its inputs."""

    def bind(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
        def kernel() -> None:
            a = driver.at(arrays["a"], batch_size * 5).reshape(batch_size, 5)
            b = driver.at(arrays["b"], batch_size * 4).view(np.float32)
            driver.at(arrays["sum"], batch_size * 20).view(np.float32)[:] = (a + b[:, None]).reshape(-1)

        return lambda on: driver.queue(on, kernel), capturable

    return bind


def open_pipeline(driver: SimulatedDriver, *, capturable: bool = True) -> BatchPipeline:
    binds = [adder(driver, capturable=capturable) for _ in range(2)]
    return BatchPipeline(driver, INPUTS, OUTPUTS, BATCH_SIZES, binds)


def test_arrays_are_laid_out_aligned_one_after_the_other() -> None:
    layout = BufferLayout.of(INPUTS, 100)
    assert [(field.name, field.offset, field.item_size) for field in layout.fields] == [("a", 0, 5), ("b", 512, 4)]
    assert layout.size == 512 + 512
    views = layout.views(np.zeros(layout.size, np.uint8))
    assert [(view.shape, view.dtype) for view in views.values()] == [
        ((100, 5), INPUTS[0].dtype),
        ((100,), INPUTS[1].dtype),
    ]
    views["b"][:] = 1
    assert not views["a"].any()
    assert layout.addresses(4096) == {"a": 4096, "b": 4096 + 512}


@pytest.mark.parametrize("capturable", [True, False])
def test_every_batch_is_padded_to_the_next_batch_size(capturable: bool) -> None:
    pipeline = open_pipeline(SimulatedDriver(), capturable=capturable)
    for count in (4, 1, 3, 2, 4, 1):
        given = feeds(count, seed=count)
        np.testing.assert_array_equal(pipeline.run(given, count)["sum"], right(given))


def test_a_network_that_cannot_be_captured_runs_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    class Strict(SimulatedDriver):
        def capture(self, work: Callable[[], None], stream: int) -> int:
            self.destroy_graph(super().capture(work, stream))
            raise CudaError("a layer waits for the host")

    driver = Strict()
    pipeline = open_pipeline(driver)
    for count in (4, 1, 3):
        np.testing.assert_array_equal(pipeline.run(feeds(count), count)["sum"], right(feeds(count)))
    assert "batches of 4 are run without a CUDA graph: a layer waits for the host" in caplog.text
    pipeline.close()
    assert not driver.held


@pytest.mark.parametrize("seed", range(5))
def test_batches_of_many_threads_are_never_mixed(seed: int) -> None:
    pipeline = open_pipeline(SimulatedDriver(seed))
    start = threading.Barrier(4)

    def work(thread: int) -> None:
        start.wait(timeout=20)
        for turn in range(20):
            given = feeds(1 + turn % 4, seed=100 * thread + turn)
            np.testing.assert_array_equal(pipeline.run(given, 1 + turn % 4)["sum"], right(given))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.parametrize("seed", range(5))
def test_device_arrays_run_in_the_order_of_their_stream(seed: int) -> None:
    """One buffer is filled, run and refilled without waiting, beside batches from the host."""
    driver = SimulatedDriver(seed)
    pipeline = open_pipeline(driver)
    caller = driver.open_stream()
    buffers = {"a": driver.allocate(20), "b": driver.allocate(16)}
    pinned = [(driver.pin(20), driver.pin(16)) for _ in range(8)]
    results = [driver.allocate(80) for _ in pinned]
    batches = [feeds(1 + turn % 4, seed=turn) for turn in range(len(pinned))]
    for batch, (first, second), result in zip(batches, pinned, results, strict=True):
        count = len(batch["b"])
        first.array[: 5 * count] = batch["a"].reshape(-1)
        second.array[: 4 * count] = batch["b"].view(np.uint8)
        driver.copy_to_device(buffers["a"], first.address, 5 * count, caller)
        driver.copy_to_device(buffers["b"], second.address, 4 * count, caller)
        pipeline.run_on_device(buffers, {"sum": result}, count, caller)
        np.testing.assert_array_equal(pipeline.run(batch, count)["sum"], right(batch))
    driver.synchronize(caller)
    for batch, result in zip(batches, results, strict=True):
        got = driver.at(result, 20 * len(batch["b"])).view(np.float32).reshape(-1, 5)
        np.testing.assert_array_equal(got, right(batch))


def test_a_batch_that_fails_does_not_reduce_concurrency() -> None:
    driver = SimulatedDriver()
    pipeline = open_pipeline(driver)
    for _ in range(2 * pipeline.concurrency):
        driver.broken = CudaError("an illegal memory access")
        with pytest.raises(CudaError, match="illegal"):
            pipeline.run(feeds(2), 2)
    np.testing.assert_array_equal(pipeline.run(feeds(2), 2)["sum"], right(feeds(2)))


def test_closing_frees_all_resources() -> None:
    driver = SimulatedDriver()
    pipeline = open_pipeline(driver)
    assert {kind for kind, _ in driver.held} == {"memory", "pinned", "stream", "graph"}
    pipeline.close()
    assert not driver.held


def test_a_failure_to_open_frees_all_resources() -> None:
    driver = SimulatedDriver()

    def refuse(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
        raise CudaError("out of memory")

    with pytest.raises(CudaError, match="out of memory"):
        BatchPipeline(driver, INPUTS, OUTPUTS, BATCH_SIZES, [adder(driver), refuse])
    assert not driver.held


def threshold(driver: SimulatedDriver) -> DynamicPipeline:
    """A network that returns the numbers above 50 of each item, padded with zeros to the longest row."""

    def bind(batch_size: int, arrays: Mapping[str, int], outputs: Mapping[str, OutputBuffer]) -> Enqueue:
        def kernel() -> None:
            found = [row[row > 50] for row in driver.at(arrays["a"], batch_size * 5).reshape(batch_size, 5)]
            most = max(map(len, found))
            rows = np.stack([np.pad(row, (0, most - len(row))) for row in found]).astype(np.float32)
            outputs["found"].shape = (batch_size, most)
            address = outputs["found"].reserve(rows.nbytes)
            driver.at(address, rows.nbytes)[:] = rows.view(np.uint8).reshape(-1)

        return lambda on: driver.queue(on, kernel)

    return DynamicPipeline(driver, INPUTS, [TensorSpec("found", (-1,), np.dtype(np.float32))], BATCH_SIZES, bind)


def test_output_sizes_may_depend_on_the_data() -> None:
    driver = SimulatedDriver()
    network = threshold(driver)
    for count, seed in ((1, 0), (3, 1), (4, 2), (2, 3), (4, 4)):
        given = feeds(count, seed)
        got = network.run(given, count)["found"]
        assert got.shape == (count, max((row > 50).sum() for row in given["a"]))
        for row, want in zip(got, given["a"], strict=True):
            np.testing.assert_array_equal(row[row > 0], want[want > 50])
    network.close()
    assert not driver.held


def test_no_detections_are_an_empty_array() -> None:
    given: Arrays = {"a": np.zeros((2, 5), np.uint8), "b": np.zeros(2, np.float32)}
    assert threshold(SimulatedDriver()).run(given, 2)["found"].shape == (2, 0)


def test_closing_waits_for_queued_work() -> None:
    driver = SimulatedDriver()
    pipeline = open_pipeline(driver)
    held = set(driver.held)
    caller, buffers = driver.open_stream(), {"a": driver.allocate(20), "b": driver.allocate(16)}
    result = driver.allocate(80)
    pipeline.run_on_device(buffers, {"sum": result}, 4, caller)
    pipeline.close()
    assert not driver.held & held
