"""One graph compiled by OpenVINO."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engines.inputs import Arrays
from engines.runtimes.openvino.graphs import describe


class CompiledGraph:
    """A compiled graph with one inference request per stream. Thread-safe."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self.inputs = tuple(describe(port) for port in model.inputs)
        self.outputs = tuple(describe(port) for port in model.outputs)
        self.streams: int = model.get_property("NUM_STREAMS")
        self._model = model
        self._idle: SimpleQueue[ov.InferRequest] = SimpleQueue()
        self._used = False
        for _ in range(self.streams):
            self._idle.put(model.create_infer_request())

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Run one batch on the next free stream."""
        request = self._idle.get()
        self._used = True
        try:
            return self._infer(request, feeds)
        finally:
            self._idle.put(request)

    def warm_up(self, batch: int) -> None:
        """Run a batch of this size on every stream, so that no client waits for one-time initialisation."""
        feeds = {i.name: np.zeros((batch, *i.shape), i.dtype) for i in self.inputs}
        requests = [self._idle.get() for _ in range(self.streams)]
        with ThreadPoolExecutor(self.streams, thread_name_prefix="posewire-warm") as pool:
            list(pool.map(lambda request: self._infer(request, feeds), requests))
        for request in requests:
            self._idle.put(request)

    def release(self) -> None:
        """Free the activations until the next batch; they can be half of the process's memory. It must be idle."""
        self._model.release_memory()

    def release_if_unused(self) -> bool:
        """Free the activations if no batch has begun since the last call, and none runs. Returns True if it did."""
        held: list[ov.InferRequest] = []  # batches that arrive meanwhile wait for one of these
        try:
            with suppress(Empty):
                while len(held) < self.streams:
                    held.append(self._idle.get_nowait())
            unused = len(held) == self.streams and not self._used
            self._used = False
            if unused:
                self.release()
            return unused
        finally:
            for request in held:
                self._idle.put(request)

    def _infer(self, request: ov.InferRequest, feeds: Arrays) -> dict[str, NDArray[Any]]:
        # Not `request.infer(feeds)`: its type checks take 1.5 times as long as decoding a pose.
        # The request only points into these arrays, so they must outlive `wait`.
        arrays = {name: np.require(array, requirements=("C", "W")) for name, array in feeds.items()}
        for name, array in arrays.items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        request.start_async()
        request.wait()
        return {spec.name: request.get_output_tensor(i).data.copy() for i, spec in enumerate(self.outputs)}
