"""Programs captured as CUDA graphs, so that one launch runs all of a network's kernels.

A graph cannot contain steps whose sizes depend on the data, such as those after box suppression. They run one by one
after the graph of everything before them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.inputs import Arrays, TensorSpec
from engines.runtimes.torch.program import Program

_CONCURRENCY = 2
"""Batches under way at once: one computes while the arrays of the other are copied."""
_WARM_UP = 2
"""Runs before capture: libraries choose kernels and allocate memory in the first."""


class CapturedGraphs:
    """A CUDA graph of a network for each batch size and each concurrent batch. Open it inside `lifecycle.gpu_setup`.

    exact: True if a batch must have exactly one of the batch sizes, because padding would yield detections. Otherwise
    batches are padded to the next batch size.
    """

    concurrency = _CONCURRENCY

    def __init__(
        self,
        programs: Mapping[int, Program],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: torch.device,
    ) -> None:
        self.exact = any(program.split_at_dynamic()[1] is not None for program in programs.values())
        self._executors = [_Executor(programs, inputs, outputs, device) for _ in range(_CONCURRENCY)]
        self._idle: SimpleQueue[_Executor] = SimpleQueue()
        for executor in self._executors:
            self._idle.put(executor)

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run one batch of arrays. The returned arrays belong to the caller."""
        executor = self._idle.get()
        try:
            return executor.run(feeds, count)
        finally:
            self._idle.put(executor)

    def run_tensors(self, feeds: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """Like `run`, with tensors on the device, in order with the work on the current stream."""
        executor = self._idle.get()
        try:
            return executor.run_tensors(feeds, count)
        finally:
            self._idle.put(executor)

    def synchronize(self) -> None:
        """Wait for the work that `run_tensors` has queued: a graph must not be freed while it runs."""
        for executor in self._executors:
            executor.synchronize()


class _Executor:
    """A stream with its own pinned and device memory, so that concurrent batches never share buffers."""

    def __init__(
        self,
        programs: Mapping[int, Program],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: torch.device,
    ) -> None:
        self._device = device
        self._batch_sizes = sorted(programs)
        self._outputs = [spec.name for spec in outputs]
        most = self._batch_sizes[-1]
        with torch.cuda.device(device), torch.inference_mode():
            self._stream = torch.cuda.Stream(device)
            self._done = torch.cuda.Event(blocking=True)  # a waiting thread sleeps and frees its core
            shapes = {spec.name: ((most, *spec.shape), _torch_dtype(spec.dtype)) for spec in inputs}
            self._pinned = {n: torch.zeros(shape, dtype=dtype).pin_memory() for n, (shape, dtype) in shapes.items()}
            self._inputs = {n: torch.zeros(shape, dtype=dtype, device=device) for n, (shape, dtype) in shapes.items()}
            # The graphs of an executor never run at the same time, so they share memory; the largest allocates enough.
            self._pool = torch.cuda.graph_pool_handle()
            parts = {batch_size: programs[batch_size].split_at_dynamic() for batch_size in self._batch_sizes}
            self._graphs = {
                batch_size: self._capture(parts[batch_size][0], batch_size)
                for batch_size in reversed(self._batch_sizes)
            }
            self._tails = {batch_size: tail for batch_size, (_, tail) in parts.items() if tail is not None}
            pinned = () if self._tails else self._graphs[most][1]
            self._results = [torch.empty_like(out, device="cpu").pin_memory() for out in pinned]

    def _capture(self, program: Program, batch_size: int) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
        feeds = [tensor[:batch_size] for tensor in self._inputs.values()]
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP):
                program(*feeds)
        self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads may allocate memory and run other networks during capture.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            results = tuple(result.contiguous() for result in program(*feeds))
        return graph, results

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        batch_size = self._padded_size(count)
        graph, results = self._graphs[batch_size]
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream), torch.inference_mode():
            for name, buffer in self._pinned.items():
                np.copyto(buffer.numpy()[:count], feeds[name])
                self._inputs[name][:count].copy_(buffer[:count], non_blocking=True)
            graph.replay()
            if batch_size in self._tails:
                outputs = [output.cpu().numpy() for output in self._tails[batch_size](*results)]
                return dict(zip(self._outputs, map(np.array, outputs), strict=True))
            for pinned, result in zip(self._results, results, strict=True):
                pinned[:count].copy_(result[:count], non_blocking=True)
            self._done.record(self._stream)
        self._done.synchronize()
        return {
            name: np.array(pinned.numpy()[:count]) for name, pinned in zip(self._outputs, self._results, strict=True)
        }

    def run_tensors(self, feeds: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        batch_size = self._padded_size(count)
        graph, results = self._graphs[batch_size]
        with torch.cuda.device(self._device), torch.inference_mode():
            caller = torch.cuda.current_stream()
            self._stream.wait_stream(caller)
            with torch.cuda.stream(self._stream):
                for name, tensor in self._inputs.items():
                    tensor[:count].copy_(feeds[name], non_blocking=True)
                    feeds[name].record_stream(self._stream)
                graph.replay()
                if batch_size in self._tails:
                    results = self._tails[batch_size](*results)
                kept = {name: result[:count].clone() for name, result in zip(self._outputs, results, strict=True)}
            caller.wait_stream(self._stream)
            for tensor in kept.values():
                tensor.record_stream(caller)
        return kept

    def synchronize(self) -> None:
        self._stream.synchronize()

    def _padded_size(self, count: int) -> int:
        return next(batch_size for batch_size in self._batch_sizes if batch_size >= count)


def _torch_dtype(dtype: np.dtype[np.generic]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
