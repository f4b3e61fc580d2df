"""One runtime over several devices: calls go to the device with the lowest load, and failing devices get none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.crops.runners import CropRunners
from engines.inputs import Arrays
from engines.poses import Region
from engines.runtimes import Runtime, RuntimeClosedError, RuntimeSpec, open_runtime
from engines.runtimes.multi_device import MultiDeviceRuntime, open_on, visible_devices
from tests.contract.network import (
    HEATMAPS,
    HEIGHT,
    INPUT,
    PIXELS,
    WIDTH,
    crops,
    expected,
    normalised,
    save_ir,
    save_onnx_graph,
)
from tests.waiting import wait_for


class FakeDevice:
    """An OpenVINO runtime that counts its calls and can be blocked or broken."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.calls = 0
        self.active = 0
        self.broken = False
        self.open = threading.Event()
        self.open.set()
        self._lock = threading.Lock()

    @property
    def spec(self) -> RuntimeSpec:
        return self.runtime.spec

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        with self._lock:
            self.calls += 1
            self.active += 1
        try:
            assert self.open.wait(timeout=20)
            if self.broken:
                raise RuntimeError("an illegal memory access")
            return self.runtime.run(feeds)
        finally:
            with self._lock:
                self.active -= 1

    def release(self, *, unused: bool = False) -> None:
        self.runtime.release(unused=unused)

    def close(self) -> None:
        self.runtime.close()


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[list[FakeDevice]]:
    path = save_ir(tmp_path / "tiny.xml")
    opened = [FakeDevice(open_runtime(path, precision="fp32", pixels=PIXELS, max_batch=2)) for _ in range(2)]
    yield opened
    for device in opened:
        device.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def runtime(devices: list[FakeDevice], clock: Clock) -> MultiDeviceRuntime:
    return MultiDeviceRuntime(devices, retry_seconds=1.0, clock=clock)


def test_the_spec_is_that_of_one_runtime_with_the_concurrency_of_all(
    runtime: MultiDeviceRuntime, devices: list[FakeDevice]
) -> None:
    one = devices[0].spec
    assert (runtime.spec.inputs, runtime.spec.outputs, runtime.spec.batch_sizes) == (
        one.inputs,
        one.outputs,
        one.batch_sizes,
    )
    assert runtime.spec.concurrency == 2 * one.concurrency
    assert runtime.spec.device == f"{one.device} + {one.device}"
    batch = crops(2)
    np.testing.assert_allclose(runtime.run({INPUT: batch})[HEATMAPS], expected(normalised(batch))[HEATMAPS], atol=2e-4)
    with pytest.raises(ValueError, match=r"a batch has 1\.\.2 items"):
        runtime.run({INPUT: crops(3)})


def test_a_busy_device_gets_no_calls(runtime: MultiDeviceRuntime, devices: list[FakeDevice]) -> None:
    devices[0].open.clear()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(runtime.run, {INPUT: crops(1)})
        wait_for(lambda: devices[0].active == 1)
        for _ in range(5):
            runtime.run({INPUT: crops(1)})
        assert (devices[0].calls, devices[1].calls) == (1, 5)
        devices[0].open.set()
        assert len(held.result(timeout=20)[HEATMAPS]) == 1


def test_many_threads_keep_all_devices_busy_and_get_their_own_results(
    runtime: MultiDeviceRuntime, devices: list[FakeDevice]
) -> None:
    both = threading.Barrier(2)

    def work(seed: int) -> None:
        batch = crops(1 + seed % 2, seed)
        both.wait(timeout=20)
        got = runtime.run({INPUT: batch})[HEATMAPS]
        np.testing.assert_allclose(got, expected(normalised(batch))[HEATMAPS], atol=2e-4)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(40)))
    assert devices[0].calls + devices[1].calls == 40


def test_a_failing_device_gets_no_calls_until_it_is_retried(
    runtime: MultiDeviceRuntime, devices: list[FakeDevice], clock: Clock
) -> None:
    devices[0].broken = True
    with pytest.raises(RuntimeError, match="illegal"):
        runtime.run({INPUT: crops(1)})
    for _ in range(5):
        runtime.run({INPUT: crops(1)})
    assert (devices[0].calls, devices[1].calls) == (1, 5)
    clock.now += 1.0
    with pytest.raises(RuntimeError, match="illegal"):
        runtime.run({INPUT: crops(1)})
    runtime.run({INPUT: crops(1)})
    clock.now += 1.0
    devices[0].broken = False
    runtime.run({INPUT: crops(1)})
    runtime.run({INPUT: crops(1)})
    assert devices[0].calls == 4, "it works again, and gets its share"


def test_if_all_devices_fail_each_call_raises(runtime: MultiDeviceRuntime, devices: list[FakeDevice]) -> None:
    for device in devices:
        device.broken = True
    for _ in range(5):
        with pytest.raises(RuntimeError, match="illegal"):
            runtime.run({INPUT: crops(1)})


def test_closing_closes_all(runtime: MultiDeviceRuntime, devices: list[FakeDevice]) -> None:
    runtime.release()
    runtime.close()
    runtime.close()
    with pytest.raises(RuntimeClosedError):
        runtime.run({INPUT: crops(1)})
    for device in devices:
        with pytest.raises(RuntimeClosedError):
            device.run({INPUT: crops(1)})


def test_runtimes_of_different_graphs_are_refused(tmp_path: Path, devices: list[FakeDevice]) -> None:
    other = open_runtime(save_ir(tmp_path / "other.xml"), precision="fp32", max_batch=2)
    with pytest.raises(ValueError, match="runs another graph"):
        MultiDeviceRuntime([devices[0], other])
    with pytest.raises(ValueError, match="no device"):
        MultiDeviceRuntime([])


def test_crops_are_cut_out_where_they_are_computed(runtime: MultiDeviceRuntime, devices: list[FakeDevice]) -> None:
    runner = CropRunners("cpu").open(runtime, PIXELS)
    frame = crops(1)[0]
    region = Region(WIDTH / 2, HEIGHT / 2, WIDTH, HEIGHT)
    devices[0].open.clear()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(runner, [frame], [region])
        wait_for(lambda: devices[0].active == 1)
        seen = runner([frame], [region])
        devices[0].open.set()
        np.testing.assert_array_equal(seen.outputs[HEATMAPS], held.result(timeout=20).outputs[HEATMAPS])
    assert (devices[0].calls, devices[1].calls) == (1, 1)


def test_one_device_needs_no_multi_device_runtime(tmp_path: Path) -> None:
    assert visible_devices("openvino") == ("cpu",)
    runtime = open_on(["cpu"], save_ir(tmp_path / "tiny.xml"), "openvino", precision="fp32")
    assert not isinstance(runtime, MultiDeviceRuntime)
    runtime.close()


@pytest.mark.parametrize("named", [[], ["cuda:0", "cuda:0"]])
def test_devices_must_be_named_once(named: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="devices must be different ones, at least one"):
        open_on(named, tmp_path / "tiny.xml", "onnxruntime")


def test_a_missing_device_is_an_error_and_closes_the_others(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[onnxruntime]'")
    path = save_onnx_graph(tmp_path / "tiny.onnx")
    with pytest.raises(ValueError, match="there is no device cuda:99"):
        open_on(["cpu", "cuda:99"], path, "onnxruntime", precision="fp32")
