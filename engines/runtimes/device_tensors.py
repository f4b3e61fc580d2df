"""Runs a graph on torch tensors, for crops that are cut out and outputs that are decoded on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.inputs import Arrays
from engines.runtimes.base import Runtime, RuntimeSpec


class AddressRuntime(Runtime, Protocol):
    """A runtime that also reads and writes memory of its device, if all its outputs have fixed shapes."""

    ordered_by_stream: bool
    """True if `run_on_device` is in order with the work on `stream` and only queues its own; False if its inputs must
    be complete before the call, as its outputs are after it."""

    @property
    def torch_device(self) -> str:
        """torch's name of the device: "cpu", "cuda:0" and so on."""

    def run_on_device(self, inputs: Mapping[str, int], outputs: Mapping[str, int], count: int, stream: int) -> None:
        """Run `count` items from and to memory at these addresses."""


class TensorAddressRuntime:
    """Wraps an AddressRuntime whose outputs have fixed shapes, and closes it."""

    def __init__(self, graph: AddressRuntime, device: torch.device) -> None:
        self._graph = graph
        self._device = device
        self._outputs = {
            spec.name: (spec.shape, torch.from_numpy(np.empty(0, spec.dtype)).dtype) for spec in graph.spec.outputs
        }

    @property
    def spec(self) -> RuntimeSpec:
        return self._graph.spec

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self._device

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        return self._graph.run(feeds)

    def run_tensors(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Like `run`, in order with the work on torch's current stream. May return once the work is queued."""
        inputs = {name: tensor.contiguous() for name, tensor in feeds.items()}
        count = len(next(iter(inputs.values())))
        results = {
            name: torch.empty((count, *shape), dtype=dtype, device=self._device)
            for name, (shape, dtype) in self._outputs.items()
        }
        stream = 0
        if self._device.type == "cuda":
            current = torch.cuda.current_stream(self._device)
            if not self._graph.ordered_by_stream:
                current.synchronize()
            stream = int(current.cuda_stream)
        # Both belong to the current stream, which continues only after the graph has read and written them, so their
        # memory is not reused before that.
        self._graph.run_on_device(
            {name: tensor.data_ptr() for name, tensor in inputs.items()},
            {name: tensor.data_ptr() for name, tensor in results.items()},
            count,
            stream,
        )
        return results

    def release(self, *, unused: bool = False) -> None:
        self._graph.release(unused=unused)

    def close(self) -> None:
        self._graph.close()
