"""CUDA, tested with a network that copies its input; needs a GPU and its driver, but no TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="needs cuda-python: pip install 'posewire[tensorrt]'")

from engines.inputs import TensorSpec
from engines.plans.gpu import find_gpu
from engines.runtimes.tensorrt.cuda import Cuda
from engines.runtimes.tensorrt.driver import CudaError, Pinned
from engines.runtimes.tensorrt.pipeline import BatchPipeline, Binding, Enqueue

HERE, THERE = (TensorSpec(name, (1001,), np.dtype(np.uint8)) for name in ("here", "there"))
BATCH_SIZES = (1, 2, 4)
CONCURRENCY = 2
needs_gpu = pytest.mark.skipif(find_gpu() is None, reason="needs an NVIDIA GPU with its driver")
no_gpu = pytest.mark.skipif(find_gpu() is not None, reason="tests machines without a GPU")


def batch(count: int, seed: int) -> dict[str, np.ndarray]:
    return {"here": np.random.default_rng(seed).integers(0, 256, (count, 1001), np.uint8)}


def copier(driver: Cuda, *, capturable: bool = True) -> BatchPipeline:
    def bind(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
        return lambda on: driver.copy_on_device(arrays["there"], arrays["here"], 1001 * batch_size, on), capturable

    binds: list[Binding] = [bind] * CONCURRENCY
    return BatchPipeline(driver, [HERE], [THERE], BATCH_SIZES, binds)


@needs_gpu
@pytest.mark.parametrize("capturable", [True, False])
def test_many_threads_run_batches_on_the_gpu(capturable: bool) -> None:
    pipeline = copier(Cuda(0), capturable=capturable)

    def work(thread: int) -> None:
        for turn in range(100):
            given = batch(1 + turn % 4, 1000 * thread + turn)
            np.testing.assert_array_equal(pipeline.run(given, 1 + turn % 4)["there"], given["here"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    pipeline.close()


@needs_gpu
def test_device_arrays_run_in_the_order_of_their_stream() -> None:
    """One buffer on the GPU is filled, run and refilled without waiting."""
    driver = Cuda(0)
    pipeline = copier(driver)
    caller, buffer = driver.open_stream(), driver.allocate(4 * 1001)
    turns = [(driver.pin(4 * 1001), driver.allocate(4 * 1001), driver.pin(4 * 1001)) for _ in range(50)]
    for seed, (sent, result, back) in enumerate(turns):
        sent.array[:] = batch(4, seed)["here"].reshape(-1)
        driver.copy_to_device(buffer, sent.address, 4 * 1001, caller)
        pipeline.run_on_device({"here": buffer}, {"there": result}, 4, caller)
        driver.copy_to_host(back.address, result, 4 * 1001, caller)
    driver.synchronize(caller)
    for sent, result, back in turns:
        np.testing.assert_array_equal(back.array, sent.array)
        driver.free(result)
        driver.unpin(sent)
        driver.unpin(back)
    pipeline.close()
    driver.free(buffer)
    driver.close_stream(caller)


@needs_gpu
def test_errors_name_the_cuda_call() -> None:
    driver = Cuda(0)
    driver.make_current()
    assert driver.free_memory() > 0
    with pytest.raises(CudaError, match="cudaMalloc failed: cudaErrorMemoryAllocation: "):
        driver.allocate(1 << 50)
    with pytest.raises(CudaError, match="there is no device cuda:999: the last one is cuda:"):
        Cuda(999)


@no_gpu
def test_a_missing_driver_is_reported() -> None:
    with pytest.raises(CudaError, match=r"no NVIDIA GPU can be used here \(cudaError.*\); `nvidia-smi` says more"):
        Cuda(0)


@no_gpu
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Cuda.make_current, "cudaSetDevice"),
        (lambda driver: driver.allocate(10), "cudaMalloc"),
        (lambda driver: driver.free(4096), "cudaFree"),
        (lambda driver: driver.pin(10), "cudaHostAlloc"),
        (lambda driver: driver.unpin(Pinned(4096, np.empty(0, np.uint8))), "cudaFreeHost"),
        (Cuda.open_stream, "cudaStreamCreateWithFlags"),
        (lambda driver: driver.close_stream(4096), "cudaStreamDestroy"),
        (lambda driver: driver.copy_to_device(4096, 8192, 16, 64), "cudaMemcpyAsync"),
        (lambda driver: driver.copy_to_host(4096, 8192, 16, 64), "cudaMemcpyAsync"),
        (lambda driver: driver.copy_on_device(4096, 8192, 16, 64), "cudaMemcpyAsync"),
        (lambda driver: driver.wait_for_stream(64, 128), "cudaEventCreateWithFlags"),
        (lambda driver: driver.capture(lambda: None, 64), "cudaStreamBeginCapture"),
        (lambda driver: driver.launch(4096, 64), "cudaGraphLaunch"),
        (lambda driver: driver.destroy_graph(4096), "cudaGraphExecDestroy"),
        (lambda driver: driver.synchronize(64), "cudaEventCreateWithFlags"),
        (Cuda.free_memory, "cudaMemGetInfo"),
    ],
)
def test_the_bindings_accept_the_arguments_of_each_call(call: Callable[[Cuda], object], name: str) -> None:
    """They check the arguments before they look for the driver."""
    driver = object.__new__(Cuda)
    driver.index = 0
    with pytest.raises(CudaError, match=f"^{name} failed: cudaError"):
        call(driver)
