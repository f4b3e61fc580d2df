"""Programs as CUDA graphs: one launch runs all of a network's kernels.

What comes after a suppression of boxes, whose sizes depend on the data, no graph can hold: it runs step by step behind
the graph of all that comes before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.runtimes.base import Arrays, TensorSpec
from engines.runtimes.torch.program import Program

_SLOTS = 2
"""Batches under way at once: one computes while the other one's arrays are copied."""
_WARM_UP = 2
"""Runs before capture: libraries choose their kernels and take their memory in the first."""


class CapturedGraphs:
    """Every rung of a network, captured once a slot. Opened while no other network is: see `engines.runtimes.opening`.

    exact: a batch has to be a rung, as whatever filled it up would be found, too. Else it is filled up to the next one.
    """

    slots = _SLOTS

    def __init__(
        self,
        programs: Mapping[int, Program],
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        device: torch.device,
    ) -> None:
        self.exact = any(program.halves()[1] is not None for program in programs.values())
        self._slots = [_Slot(programs, inputs, outputs, device) for _ in range(_SLOTS)]
        self._idle: SimpleQueue[_Slot] = SimpleQueue()
        for slot in self._slots:
            self._idle.put(slot)

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        """Run one batch of arrays on the next free slot; the arrays returned are the caller's."""
        slot = self._idle.get()
        try:
            return slot.run(feeds, count)
        finally:
            self._idle.put(slot)

    def run_tensors(self, feeds: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """The same with tensors of the device, in the order of the current stream's work."""
        slot = self._idle.get()
        try:
            return slot.run_tensors(feeds, count)
        finally:
            self._idle.put(slot)

    def finish(self) -> None:
        """Wait for what `run_tensors` has queued: a graph must not go while it runs."""
        for slot in self._slots:
            slot.finish()


class _Slot:
    """A stream with pinned and device memory of its own, so that slots never touch each other's batches."""

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
            self._done = torch.cuda.Event(blocking=True)  # a thread that waits sleeps, and leaves its core to others
            shapes = {spec.name: ((most, *spec.shape), _torch_dtype(spec.dtype)) for spec in inputs}
            self._staging = {n: torch.zeros(shape, dtype=dtype).pin_memory() for n, (shape, dtype) in shapes.items()}
            self._inputs = {n: torch.zeros(shape, dtype=dtype, device=device) for n, (shape, dtype) in shapes.items()}
            # Graphs of one slot never run at once, so they share their memory; the largest takes what the others need.
            self._pool = torch.cuda.graph_pool_handle()
            halves = {batch_size: programs[batch_size].halves() for batch_size in self._batch_sizes}
            self._graphs = {
                batch_size: self._capture(halves[batch_size][0], batch_size)
                for batch_size in reversed(self._batch_sizes)
            }
            self._tails = {batch_size: tail for batch_size, (_, tail) in halves.items() if tail is not None}
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
        # thread_local: other threads may go on to take memory and run other networks meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            results = tuple(result.contiguous() for result in program(*feeds))
        return graph, results

    def run(self, feeds: Arrays, count: int) -> dict[str, NDArray[Any]]:
        batch_size = self._rung(count)
        graph, results = self._graphs[batch_size]
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream), torch.inference_mode():
            for name, staging in self._staging.items():
                np.copyto(staging.numpy()[:count], feeds[name])
                self._inputs[name][:count].copy_(staging[:count], non_blocking=True)
            graph.replay()
            if batch_size in self._tails:
                given = [output.cpu().numpy() for output in self._tails[batch_size](*results)]
                return dict(zip(self._outputs, map(np.array, given), strict=True))
            for pinned, result in zip(self._results, results, strict=True):
                pinned[:count].copy_(result[:count], non_blocking=True)
            self._done.record(self._stream)
        self._done.synchronize()
        return {
            name: np.array(pinned.numpy()[:count]) for name, pinned in zip(self._outputs, self._results, strict=True)
        }

    def run_tensors(self, feeds: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        batch_size = self._rung(count)
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

    def finish(self) -> None:
        self._stream.synchronize()

    def _rung(self, count: int) -> int:
        return next(batch_size for batch_size in self._batch_sizes if batch_size >= count)


def _torch_dtype(dtype: np.dtype[np.generic]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
