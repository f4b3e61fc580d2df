"""Slots of a device: copies and work of many batches side by side, none of them ever in another's place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.runtimes.base import Arrays, TensorSpec
from engines.runtimes.openvino.dynamic_outputs import GrowingOutput, Unsized
from engines.runtimes.tensorrt.driver import CudaError
from engines.runtimes.tensorrt.pipeline import BatchPipeline, Binding, Enqueue
from engines.runtimes.tensorrt.staging import Layout
from tests.engines.runtimes.tensorrt.paper_driver import PaperDriver

INPUTS = (TensorSpec("a", (5,), np.dtype(np.uint8)), TensorSpec("b", (), np.dtype(np.float32)))
OUTPUTS = (TensorSpec("sum", (5,), np.dtype(np.float32)),)
RUNGS = (1, 2, 4)


def feeds(count: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {"a": rng.integers(0, 99, (count, 5), np.uint8), "b": rng.integers(0, 99, count).astype(np.float32)}


def right(given: Arrays) -> NDArray[np.float32]:
    return given["a"].astype(np.float32) + given["b"][:, None]


def adder(driver: PaperDriver, *, capturable: bool = True) -> Binding:
    """A network that adds its inputs."""

    def bind(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
        def kernel() -> None:
            a = driver.at(arrays["a"], batch_size * 5).reshape(batch_size, 5)
            b = driver.at(arrays["b"], batch_size * 4).view(np.float32)
            driver.at(arrays["sum"], batch_size * 20).view(np.float32)[:] = (a + b[:, None]).reshape(-1)

        return lambda on: driver.queue(on, kernel), capturable

    return bind


def open_slots(driver: PaperDriver, *, capturable: bool = True) -> BatchPipeline:
    binds = [adder(driver, capturable=capturable) for _ in range(2)]
    return BatchPipeline(driver, INPUTS, OUTPUTS, RUNGS, binds)


def test_arrays_lie_aligned_one_behind_the_other() -> None:
    layout = Layout.of(INPUTS, 100)
    assert [(field.name, field.offset, field.item) for field in layout.fields] == [("a", 0, 5), ("b", 512, 4)]
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
def test_every_batch_size_takes_the_next_rung(capturable: bool) -> None:
    slots = open_slots(PaperDriver(), capturable=capturable)
    for count in (4, 1, 3, 2, 4, 1):
        given = feeds(count, seed=count)
        np.testing.assert_array_equal(slots.run(given, count)["sum"], right(given))


def test_what_cannot_be_captured_after_all_is_run_without_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    class Strict(PaperDriver):
        def capture(self, work: Callable[[], None], stream: int) -> int:
            self.drop_graph(super().capture(work, stream))
            raise CudaError("a layer waits for the host")

    driver = Strict()
    slots = open_slots(driver)
    for count in (4, 1, 3):
        np.testing.assert_array_equal(slots.run(feeds(count), count)["sum"], right(feeds(count)))
    assert "batches of 4 are run without a CUDA graph: a layer waits for the host" in caplog.text
    slots.close()
    assert not driver.held


@pytest.mark.parametrize("seed", range(5))
def test_batches_of_many_threads_are_never_mixed(seed: int) -> None:
    slots = open_slots(PaperDriver(seed))
    start = threading.Barrier(4)

    def work(thread: int) -> None:
        start.wait(timeout=20)
        for turn in range(20):
            given = feeds(1 + turn % 4, seed=100 * thread + turn)
            np.testing.assert_array_equal(slots.run(given, 1 + turn % 4)["sum"], right(given))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


@pytest.mark.parametrize("seed", range(5))
def test_arrays_of_the_device_run_in_the_order_of_their_own_stream(seed: int) -> None:
    """One place is filled, run, and filled again at once, beside the host's batches: only order tells them apart."""
    driver = PaperDriver(seed)
    slots = open_slots(driver)
    caller = driver.open_stream()
    places = {"a": driver.allocate(20), "b": driver.allocate(16)}
    pinned = [(driver.pin(20), driver.pin(16)) for _ in range(8)]
    results = [driver.allocate(80) for _ in pinned]
    batches = [feeds(1 + turn % 4, seed=turn) for turn in range(len(pinned))]
    for batch, (first, second), result in zip(batches, pinned, results, strict=True):
        count = len(batch["b"])
        first.array[: 5 * count] = batch["a"].reshape(-1)
        second.array[: 4 * count] = batch["b"].view(np.uint8)
        driver.copy_in(places["a"], first.address, 5 * count, caller)
        driver.copy_in(places["b"], second.address, 4 * count, caller)
        slots.run_on_device(places, {"sum": result}, count, caller)
        np.testing.assert_array_equal(slots.run(batch, count)["sum"], right(batch))
    driver.finish(caller)
    for batch, result in zip(batches, results, strict=True):
        got = driver.at(result, 20 * len(batch["b"])).view(np.float32).reshape(-1, 5)
        np.testing.assert_array_equal(got, right(batch))


def test_a_batch_that_fails_on_the_device_costs_no_slot() -> None:
    driver = PaperDriver()
    slots = open_slots(driver)
    for _ in range(2 * slots.count):
        driver.broken = CudaError("an illegal memory access")
        with pytest.raises(CudaError, match="illegal"):
            slots.run(feeds(2), 2)
    np.testing.assert_array_equal(slots.run(feeds(2), 2)["sum"], right(feeds(2)))


def test_closing_gives_everything_back() -> None:
    driver = PaperDriver()
    slots = open_slots(driver)
    assert {kind for kind, _ in driver.held} == {"memory", "pinned", "stream", "graph"}
    slots.close()
    assert not driver.held


def test_opening_that_fails_gives_everything_back() -> None:
    driver = PaperDriver()

    def refuse(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
        raise CudaError("out of memory")

    with pytest.raises(CudaError, match="out of memory"):
        BatchPipeline(driver, INPUTS, OUTPUTS, RUNGS, [adder(driver), refuse])
    assert not driver.held


def finder(driver: PaperDriver) -> Unsized:
    """A network that gives as many rows as the fullest item has numbers above 50: those, then zeros."""

    def bind(batch_size: int, arrays: Mapping[str, int], outputs: Mapping[str, GrowingOutput]) -> Enqueue:
        def kernel() -> None:
            found = [row[row > 50] for row in driver.at(arrays["a"], batch_size * 5).reshape(batch_size, 5)]
            most = max(map(len, found))
            rows = np.stack([np.pad(row, (0, most - len(row))) for row in found]).astype(np.float32)
            outputs["found"].shape = (batch_size, most)
            address = outputs["found"].reserve(rows.nbytes)
            driver.at(address, rows.nbytes)[:] = rows.view(np.uint8).reshape(-1)

        return lambda on: driver.queue(on, kernel)

    return Unsized(driver, INPUTS, [TensorSpec("found", (-1,), np.dtype(np.float32))], RUNGS, bind)


def test_outputs_may_be_as_large_as_what_is_found() -> None:
    driver = PaperDriver()
    network = finder(driver)
    for count, seed in ((1, 0), (3, 1), (4, 2), (2, 3), (4, 4)):
        given = feeds(count, seed)
        got = network.run(given, count)["found"]
        assert got.shape == (count, max((row > 50).sum() for row in given["a"]))
        for row, want in zip(got, given["a"], strict=True):
            np.testing.assert_array_equal(row[row > 0], want[want > 50])
    network.close()
    assert not driver.held


def test_nothing_found_is_an_empty_array() -> None:
    given: Arrays = {"a": np.zeros((2, 5), np.uint8), "b": np.zeros(2, np.float32)}
    assert finder(PaperDriver()).run(given, 2)["found"].shape == (2, 0)


def test_closing_waits_for_what_is_still_queued() -> None:
    driver = PaperDriver()
    slots = open_slots(driver)
    held = set(driver.held)
    caller, places = driver.open_stream(), {"a": driver.allocate(20), "b": driver.allocate(16)}
    result = driver.allocate(80)
    slots.run_on_device(places, {"sum": result}, 4, caller)
    slots.close()
    assert not driver.held & held
