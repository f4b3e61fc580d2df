"""OpenVINO on the CPU: ONNX, OpenVINO IR and TFLite graphs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engines.runtimes.base import (
    Arrays,
    PixelInput,
    RuntimeSpec,
    batches_independently,
    cut_into_rungs,
    join_rungs,
    rungs_up_to,
)
from engines.runtimes.calls import Calls
from engines.runtimes.graphs import describe, gives_an_output_per_item, is_quantised, read_graph
from engines.runtimes.memory import return_freed_memory

_MAX_BATCH = 4  # on a CPU the time per item is flat from here, so a larger batch would only add latency and memory


class OpenVinoRuntime:
    """One graph compiled twice: `many` runs a call per stream of cores, which gives the most items a second; `one`
    runs a single item on all cores, which answers soonest. An item that finds itself alone takes `one`.

    path: .onnx, .xml or .tflite. pixels: fold uint8 RGB preprocessing into the graph's only input.
    outputs: keep these outputs alone; what only the others need is cut off.
    precision: "fp32", "bf16", or "auto": bf16 where the CPU computes in it. A graph with Q/DQ nodes is computed in int8
    between them whatever is asked for, and its spec says so. threads: cores to compute on, None for all.
    Raises ValueError for a precision that the CPU does not have and for outputs that the graph does not have.
    """

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "auto",
        max_batch: int | None = None,
        pixels: PixelInput | None = None,
        outputs: Sequence[str] | None = None,
        cache_dir: Path | None = None,
        threads: int | None = None,
    ) -> None:
        core = ov.Core()
        precision = _resolve(precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        if cache_dir is not None:
            core.set_property({"CACHE_DIR": str(cache_dir)})
        if threads is not None:
            core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads})

        def compiled(batch: int, hint: str) -> _Compiled:
            config = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
            return _Compiled(core.compile_model(read_graph(core, path, pixels, outputs, batch), "CPU", config))

        keeps_shape = max_batch != 1 and gives_an_output_per_item(read_graph(core, path, pixels, outputs, 2))
        many = compiled(-1, "THROUGHPUT") if keeps_shape else None
        batches = many is not None and batches_independently(many.infer, many.inputs)
        if many is None or not batches:
            many = compiled(1, "THROUGHPUT")
        top = (max_batch or _MAX_BATCH) if batches else 1
        self._many: _Compiled | None = many
        self._one: _Compiled | None = compiled(1, "LATENCY") if many.streams > 1 else None
        self._spec = RuntimeSpec(
            inputs=many.inputs,
            outputs=many.outputs,
            rungs=rungs_up_to(top),
            concurrency=many.streams,
            device=core.get_property("CPU", "FULL_DEVICE_NAME").strip(),
            precision="int8" if is_quantised(core.read_model(path)) else precision,
        )
        self._calls = Calls()
        many.warm_up(self._spec.rungs)
        if self._one is not None:
            self._one.warm_up((1,))
        self.release()

    @property
    def spec(self) -> RuntimeSpec:
        """See `Runtime.spec`."""
        return self._spec

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        count = self._spec.check(feeds)
        with self._calls.entered() as alone:
            compiled = self._one if alone and count == 1 and self._one is not None else self._many
            assert compiled is not None  # noqa: S101 - close, which clears it, waits for this call
            # Every new batch size costs a compilation and padding costs real work, so a batch runs as whole rungs.
            parts = [
                compiled.infer({name: array[start:stop] for name, array in feeds.items()})
                for start, stop in cut_into_rungs(count, self._spec.rungs)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: join_rungs([part[name] for part in parts]) for name in parts[0]}

    def release(self) -> None:
        """See `Runtime.release`."""
        with self._calls.held_up() as idle:
            if idle:
                for compiled in filter(None, (self._one, self._many)):
                    compiled.release()
        return_freed_memory()

    def close(self) -> None:
        """See `Runtime.close`."""
        self._calls.close()
        self._one = self._many = None


class _Compiled:
    """A compiled graph with one inference request per stream."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self.inputs = tuple(describe(port) for port in model.inputs)
        self.outputs = tuple(describe(port) for port in model.outputs)
        self.streams: int = model.get_property("NUM_STREAMS")
        self._model = model
        self._idle: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(self.streams):
            self._idle.put(model.create_infer_request())

    def infer(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Run one batch on the next free stream."""
        request = self._idle.get()
        try:
            return self._infer(request, feeds)
        finally:
            self._idle.put(request)

    def warm_up(self, rungs: Sequence[int]) -> None:
        """Run every rung on every stream, so that no client waits for a compilation."""

        def warm(request: ov.InferRequest) -> None:
            for rung in rungs:
                self._infer(request, {i.name: np.zeros((rung, *i.shape), i.dtype) for i in self.inputs})

        requests = [self._idle.get() for _ in range(self.streams)]
        with ThreadPoolExecutor(self.streams, thread_name_prefix="posewire-warm") as pool:
            list(pool.map(warm, requests))
        for request in requests:
            self._idle.put(request)

    def release(self) -> None:
        """Free the activations of the largest rung run so far, which can be half of what a process holds."""
        self._model.release_memory()

    def _infer(self, request: ov.InferRequest, feeds: Arrays) -> dict[str, NDArray[Any]]:
        # Step by step, as `request.infer(feeds)` takes half as long again as a pose takes to decode, for the sake of
        # all else that it can be given. The request only points into these arrays: they have to outlive `wait`.
        arrays = {name: np.require(array, requirements=("C", "W")) for name, array in feeds.items()}
        for name, array in arrays.items():
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        request.start_async()
        request.wait()
        return {spec.name: request.get_output_tensor(i).data.copy() for i, spec in enumerate(self.outputs)}


def _resolve(precision: str, capabilities: Sequence[str]) -> str:
    if precision == "auto":
        return "bf16" if "BF16" in capabilities else "fp32"
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision {precision!r} is not one of auto, fp32, bf16")
    if precision == "bf16" and "BF16" not in capabilities:
        raise ValueError("this CPU does not compute in bf16; use precision auto or fp32")
    return precision
