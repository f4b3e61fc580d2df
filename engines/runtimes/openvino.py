"""OpenVINO on the CPU: ONNX, OpenVINO IR and TFLite graphs."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
from numpy.random import default_rng  # by name: numpy loads it at first use, which threads must not do side by side
from numpy.typing import NDArray
from openvino.preprocess import ColorFormat, PrePostProcessor

from engines.runtimes.base import (
    LADDER,
    Arrays,
    PixelInput,
    RuntimeClosedError,
    RuntimeSpec,
    TensorSpec,
    cut_into_rungs,
    join_rungs,
)

_MAX_BATCH = 4  # on a CPU the time per item is flat from here, so a larger batch would only add latency and memory

# The binding fills its tables of numpy types at their first use, behind a C++ guard that it takes while it holds the
# interpreter's lock and keeps while it lets go of it: two threads that come first together wait for each other forever
# (seen in 2026.4.1, graphs being compiled side by side). So they are filled here, under the import lock.
ov.Tensor(np.zeros(1, ov.Type.f32.to_dtype()))


class OpenVinoRuntime:
    """One graph compiled twice: `many` runs a call per stream of cores, which gives the most items a second; `one`
    runs a single item on all cores, which answers soonest. An item that finds itself alone takes `one`.

    path: .onnx, .xml or .tflite. pixels: fold uint8 RGB preprocessing into the graph's only input.
    outputs: keep these outputs alone; what only the others need is cut off.
    precision: "fp32", "bf16", or "auto": bf16 where the CPU computes in it. threads: cores to compute on, None for all.
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

        keeps_shape = max_batch != 1 and _gives_an_output_per_item(read_graph(core, path, pixels, outputs, 2))
        many = compiled(-1, "THROUGHPUT") if keeps_shape else None
        batches = many is not None and many.batches_independently()
        if many is None or not batches:
            many = compiled(1, "THROUGHPUT")
        top = (max_batch or _MAX_BATCH) if batches else 1
        self._many: _Compiled | None = many
        self._one: _Compiled | None = compiled(1, "LATENCY") if many.streams > 1 else None
        self._spec = RuntimeSpec(
            inputs=many.inputs,
            outputs=many.outputs,
            rungs=(*(rung for rung in LADDER if rung < top), top),
            concurrency=many.streams,
            device=core.get_property("CPU", "FULL_DEVICE_NAME").strip(),
            precision=precision,
        )
        self._active = 0
        self._changed = threading.Condition()
        self._closed = False
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
        with self._entered(count) as compiled:
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
        with self._changed:
            if self._active == 0:
                for compiled in filter(None, (self._one, self._many)):
                    compiled.release()
        _return_freed_memory()

    def close(self) -> None:
        """See `Runtime.close`."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._active == 0)
            self._one = self._many = None

    @contextmanager
    def _entered(self, count: int) -> Iterator[_Compiled]:
        with self._changed:
            alone = self._active == 0 and count == 1 and self._one is not None
            compiled = self._one if alone else self._many
            if self._closed or compiled is None:
                raise RuntimeClosedError("this runtime is closed")
            self._active += 1
        try:
            yield compiled
        finally:
            with self._changed:
                self._active -= 1
                self._changed.notify_all()


class _Compiled:
    """A compiled graph with one inference request per stream."""

    def __init__(self, model: ov.CompiledModel) -> None:
        self.inputs = tuple(_describe(port) for port in model.inputs)
        self.outputs = tuple(_describe(port) for port in model.outputs)
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

    def batches_independently(self) -> bool:
        """Whether the items of a batch of two come out as they do alone.

        Many exported graphs accept a batch and then mix its items, because a reshape has the batch of one baked in.
        """
        rng = default_rng(0)
        pair = {i.name: rng.integers(0, 255, (2, *i.shape)).astype(i.dtype) for i in self.inputs}
        try:
            together = self.infer(pair)
            alone = [self.infer({name: array[n : n + 1] for name, array in pair.items()}) for n in range(2)]
        except RuntimeError:  # the graph refuses the shape
            return False
        return all(_close(together[name], n, alone[n][name]) for name in together for n in range(2))

    def _infer(self, request: ov.InferRequest, feeds: Arrays) -> dict[str, NDArray[Any]]:
        results = request.infer({k: np.ascontiguousarray(v) for k, v in feeds.items()}, share_inputs=True)
        return {spec.name: results[i] for i, spec in enumerate(self.outputs)}


def _close(together: NDArray[Any], n: int, alone: NDArray[Any]) -> bool:
    item = together[n : n + 1]
    if len(together) != 2 or item.shape != alone.shape:
        return False
    scale = float(np.abs(alone).max(initial=1.0))
    return bool(np.allclose(item, alone, rtol=0, atol=0.05 * scale))  # bf16 rounds; mixed items differ by their all


def _return_freed_memory() -> None:
    """Give the pages that compiling has freed back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _gives_an_output_per_item(model: ov.Model) -> bool:
    """Whether the shapes of a graph with a batch of two let it batch: finds most that cannot, without compiling."""
    firsts = [port.partial_shape[0] for port in model.outputs if port.partial_shape.rank.get_length() > 0]
    return len(firsts) == len(model.outputs) and all(first.is_dynamic or first.get_length() == 2 for first in firsts)


def read_graph(
    core: ov.Core, path: Path, pixels: PixelInput | None, outputs: Sequence[str] | None, batch: int
) -> ov.Model:
    """The graph as it is compiled: with the outputs asked for, with its preprocessing, for this batch (-1: any)."""
    model = core.read_model(path)
    if outputs is not None:
        _keep_outputs(model, outputs)
    if pixels is not None:
        model = _fold_pixels(model, pixels)
    shapes = {}
    for port in model.inputs:
        shape = port.partial_shape
        shape[0] = ov.Dimension(batch)
        shapes[port] = shape
    model.reshape(shapes)
    return model


def _keep_outputs(model: ov.Model, outputs: Sequence[str]) -> None:
    named = {port.get_any_name(): port for port in model.outputs}
    if missing := [name for name in outputs if name not in named]:
        raise ValueError(f"the graph has no output {', '.join(missing)}; it has {', '.join(named)}")
    for name, port in named.items():
        if name not in outputs:
            model.remove_result(port.get_node())


def _fold_pixels(model: ov.Model, pixels: PixelInput) -> ov.Model:
    """Make the graph take (n, height, width, 3) uint8 RGB and normalise by itself."""
    shape = model.input(0).partial_shape
    channels_first = shape.rank.get_length() == 4 and shape[1].is_static and shape[1].get_length() == 3
    steps = PrePostProcessor(model)
    port = steps.input(0)
    port.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ColorFormat.RGB)
    port.model().set_layout(ov.Layout("NCHW" if channels_first else "NHWC"))
    to_float = port.preprocess().convert_element_type(ov.Type.f32)
    if pixels.order == "bgr":
        to_float.convert_color(ColorFormat.BGR)
    to_float.mean(list(pixels.mean)).scale(list(pixels.std))
    folded = steps.build()
    batch = folded.input(0).partial_shape[0]
    folded.reshape({folded.input(0): ov.PartialShape([batch, pixels.height, pixels.width, 3])})
    return folded


def _describe(port: ov.ConstOutput) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else -1 for d in list(port.partial_shape)[1:])
    return TensorSpec(port.get_any_name(), shape, port.element_type.to_dtype())


def _resolve(precision: str, capabilities: Sequence[str]) -> str:
    if precision == "auto":
        return "bf16" if "BF16" in capabilities else "fp32"
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision {precision!r} is not one of auto, fp32, bf16")
    if precision == "bf16" and "BF16" not in capabilities:
        raise ValueError("this CPU does not compute in bf16; use precision auto or fp32")
    return precision
