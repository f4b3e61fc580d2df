"""CUDA itself, by a network that copies: it needs a GPU and its driver, and no TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="needs cuda-python: pip install 'posewire[tensorrt]'")

from engines.plans.gpu import find_gpu
from engines.runtimes.base import TensorSpec
from engines.runtimes.tensorrt.cuda import Cuda
from engines.runtimes.tensorrt.driver import CudaError, Pinned
from engines.runtimes.tensorrt.pipeline import BatchPipeline, Binding, Enqueue

HERE, THERE = (TensorSpec(name, (1001,), np.dtype(np.uint8)) for name in ("here", "there"))
RUNGS = (1, 2, 4)
SLOTS = 2
needs_gpu = pytest.mark.skipif(find_gpu() is None, reason="needs an NVIDIA GPU with its driver")
no_gpu = pytest.mark.skipif(find_gpu() is not None, reason="says what happens where there is no GPU")


def batch(count: int, seed: int) -> dict[str, np.ndarray]:
    return {"here": np.random.default_rng(seed).integers(0, 256, (count, 1001), np.uint8)}


def copier(driver: Cuda, *, capturable: bool = True) -> BatchPipeline:
    def bind(batch_size: int, arrays: Mapping[str, int], stream: int) -> tuple[Enqueue, bool]:
        return lambda on: driver.copy_within(arrays["there"], arrays["here"], 1001 * batch_size, on), capturable

    binds: list[Binding] = [bind] * SLOTS
    return BatchPipeline(driver, [HERE], [THERE], RUNGS, binds)


@needs_gpu
@pytest.mark.parametrize("capturable", [True, False])
def test_batches_of_many_threads_pass_through_the_gpu(capturable: bool) -> None:
    slots = copier(Cuda(0), capturable=capturable)

    def work(thread: int) -> None:
        for turn in range(100):
            given = batch(1 + turn % 4, 1000 * thread + turn)
            np.testing.assert_array_equal(slots.run(given, 1 + turn % 4)["there"], given["here"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    slots.close()


@needs_gpu
def test_arrays_of_the_gpu_run_in_the_order_of_their_own_stream() -> None:
    """One place on the GPU is filled, run from and filled again without waiting: only order tells batches apart."""
    driver = Cuda(0)
    slots = copier(driver)
    caller, place = driver.open_stream(), driver.allocate(4 * 1001)
    turns = [(driver.pin(4 * 1001), driver.allocate(4 * 1001), driver.pin(4 * 1001)) for _ in range(50)]
    for seed, (sent, result, back) in enumerate(turns):
        sent.array[:] = batch(4, seed)["here"].reshape(-1)
        driver.copy_in(place, sent.address, 4 * 1001, caller)
        slots.run_on_device({"here": place}, {"there": result}, 4, caller)
        driver.copy_out(back.address, result, 4 * 1001, caller)
    driver.finish(caller)
    for sent, result, back in turns:
        np.testing.assert_array_equal(back.array, sent.array)
        driver.free(result)
        driver.unpin(sent)
        driver.unpin(back)
    slots.close()
    driver.free(place)
    driver.close_stream(caller)


@needs_gpu
def test_what_cuda_refuses_is_said() -> None:
    driver = Cuda(0)
    driver.use()
    assert driver.free_memory() > 0
    with pytest.raises(CudaError, match="cudaMalloc failed: cudaErrorMemoryAllocation: "):
        driver.allocate(1 << 50)
    with pytest.raises(CudaError, match="there is no device cuda:999: the last one is cuda:"):
        Cuda(999)


@no_gpu
def test_without_a_driver_that_is_said() -> None:
    with pytest.raises(CudaError, match=r"no NVIDIA GPU can be used here \(cudaError.*\); `nvidia-smi` says more"):
        Cuda(0)


@no_gpu
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Cuda.use, "cudaSetDevice"),
        (lambda driver: driver.allocate(10), "cudaMalloc"),
        (lambda driver: driver.free(4096), "cudaFree"),
        (lambda driver: driver.pin(10), "cudaHostAlloc"),
        (lambda driver: driver.unpin(Pinned(4096, np.empty(0, np.uint8))), "cudaFreeHost"),
        (Cuda.open_stream, "cudaStreamCreateWithFlags"),
        (lambda driver: driver.close_stream(4096), "cudaStreamDestroy"),
        (lambda driver: driver.copy_in(4096, 8192, 16, 64), "cudaMemcpyAsync"),
        (lambda driver: driver.copy_out(4096, 8192, 16, 64), "cudaMemcpyAsync"),
        (lambda driver: driver.copy_within(4096, 8192, 16, 64), "cudaMemcpyAsync"),
        (lambda driver: driver.follow(64, 128), "cudaEventCreateWithFlags"),
        (lambda driver: driver.capture(lambda: None, 64), "cudaStreamBeginCapture"),
        (lambda driver: driver.launch(4096, 64), "cudaGraphLaunch"),
        (lambda driver: driver.drop_graph(4096), "cudaGraphExecDestroy"),
        (lambda driver: driver.finish(64), "cudaEventCreateWithFlags"),
        (Cuda.free_memory, "cudaMemGetInfo"),
    ],
)
def test_each_call_is_one_that_the_bindings_take(call: Callable[[Cuda], object], name: str) -> None:
    """They look at the arguments first, and then for the driver."""
    driver = object.__new__(Cuda)
    driver.index = 0
    with pytest.raises(CudaError, match=f"^{name} failed: cudaError"):
        call(driver)
