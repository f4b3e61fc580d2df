"""Memory, streams and graphs of one CUDA device through cuda-python, for runtimes without torch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda.bindings import runtime as cuda

from engines.runtimes.tensorrt.driver import CudaError, Pinned

_SUCCESS = cuda.cudaError_t.cudaSuccess


class Cuda:
    """The CUDA device with this index, as a `driver.Driver`. Thread-safe.

    Raises CudaError if there is no such device.
    """

    def __init__(self, index: int) -> None:
        error, count = cuda.cudaGetDeviceCount()
        if error != _SUCCESS or not count:
            raise CudaError(f"no NVIDIA GPU can be used here ({_describe(error)}); `nvidia-smi` says more")
        if not 0 <= index < count:
            raise CudaError(f"there is no device cuda:{index}: the last one is cuda:{count - 1}")
        self.index = index

    def make_current(self) -> None:
        _call(cuda.cudaSetDevice, self.index)

    def allocate(self, size: int) -> int:
        return int(_call(cuda.cudaMalloc, max(size, 1)))

    def free(self, address: int) -> None:
        _call(cuda.cudaFree, address)

    def pin(self, size: int) -> Pinned:
        address = int(_call(cuda.cudaHostAlloc, max(size, 1), cuda.cudaHostAllocPortable))
        return Pinned(address, np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)))

    def unpin(self, memory: Pinned) -> None:
        _call(cuda.cudaFreeHost, memory.address)

    def open_stream(self) -> int:
        return int(_call(cuda.cudaStreamCreateWithFlags, cuda.cudaStreamNonBlocking))

    def close_stream(self, stream: int) -> None:
        _call(cuda.cudaStreamDestroy, stream)

    def copy_to_device(self, device: int, host: int, size: int, stream: int) -> None:
        _call(cuda.cudaMemcpyAsync, device, host, size, cuda.cudaMemcpyKind.cudaMemcpyHostToDevice, stream)

    def copy_to_host(self, host: int, device: int, size: int, stream: int) -> None:
        _call(cuda.cudaMemcpyAsync, host, device, size, cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost, stream)

    def copy_on_device(self, to: int, source: int, size: int, stream: int) -> None:
        _call(cuda.cudaMemcpyAsync, to, source, size, cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice, stream)

    def wait_for_stream(self, stream: int, other: int) -> None:
        event = _call(cuda.cudaEventCreateWithFlags, cuda.cudaEventDisableTiming)
        try:
            _call(cuda.cudaEventRecord, event, other)
            _call(cuda.cudaStreamWaitEvent, stream, event, 0)
        finally:
            _call(cuda.cudaEventDestroy, event)  # takes effect once it has happened

    def capture(self, work: Callable[[], None], stream: int) -> int:
        """See `Driver.capture`. During capture, other threads may use the device but must not synchronise all of it."""
        _call(cuda.cudaStreamBeginCapture, stream, cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)
        try:
            work()
        finally:
            graph = _call(cuda.cudaStreamEndCapture, stream)
        try:
            return int(_call(cuda.cudaGraphInstantiate, graph, 0))
        finally:
            _call(cuda.cudaGraphDestroy, graph)

    def launch(self, graph: int, stream: int) -> None:
        _call(cuda.cudaGraphLaunch, graph, stream)

    def destroy_graph(self, graph: int) -> None:
        _call(cuda.cudaGraphExecDestroy, graph)

    def synchronize(self, stream: int) -> None:
        # Waiting for an event can block without spinning; waiting for a stream spins.
        flags = cuda.cudaEventBlockingSync | cuda.cudaEventDisableTiming
        event = _call(cuda.cudaEventCreateWithFlags, flags)
        try:
            _call(cuda.cudaEventRecord, event, stream)
            _call(cuda.cudaEventSynchronize, event)
        finally:
            _call(cuda.cudaEventDestroy, event)

    def free_memory(self) -> int:
        """Bytes of the device's memory that are not allocated."""
        free, _ = _call(cuda.cudaMemGetInfo)
        return int(free)


def _call(function: Any, *arguments: Any) -> Any:
    error, *values = function(*arguments)
    if error != _SUCCESS:
        raise CudaError(f"{function.__name__} failed: {_describe(error)}")
    return values[0] if len(values) == 1 else values


def _describe(error: Any) -> str:
    _, text = cuda.cudaGetErrorString(error)
    return f"{error.name}: {text.decode() if isinstance(text, bytes) else text}"
