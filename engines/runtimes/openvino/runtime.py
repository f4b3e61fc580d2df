"""OpenVINO on the CPU: runs ONNX, OpenVINO IR, TFLite and TensorFlow graphs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import openvino as ov
from numpy.typing import NDArray

from engines.inputs import Arrays, PixelInput, batch_sizes_up_to
from engines.runtimes.base import RuntimeSpec, batches_independently, cut_into_batch_sizes, join_batches
from engines.runtimes.lifecycle import ActiveCalls, SharedCores, return_freed_memory
from engines.runtimes.openvino.compiled import CompiledGraph
from engines.runtimes.openvino.graphs import is_quantised, prepare_graph, takes_batch

_BATCH_SIZES = (1, 4)
"""Unless `max_batch` says otherwise. On a CPU the time per item is flat from four items on, so a larger batch would
only add latency. A graph for two items would take 17 MB for each network of BlazePose, to save at most 5 % on batches
of two or three.
"""


class OpenVinoRuntime:
    """One graph, compiled for throughput and for latency.

    The throughput graphs run each call on one stream of cores, which gives the most items per second. There is one per
    batch size, because OpenVINO fuses fewer operators in a graph for batches of any size. The latency graph runs a
    single item on all cores; it is used when no other call is under way.

    path: .onnx, .xml, .tflite or .pb (a frozen GraphDef). pixels: fold uint8 RGB preprocessing into the graph's only
    input.
    outputs: keep only these outputs or values inside the graph, and only the part of the graph that they need.
    precision: "fp32", "bf16", or "auto": bf16 if the CPU supports it. A graph with Q/DQ nodes is computed in int8
    between them whatever the precision, and its spec says so. threads: cores to compute on, None for all.
    shared_cores: counts the calls of all runtimes on these cores, by default of this one alone.
    Raises ValueError for a precision that the CPU does not support and for outputs that the graph does not have.
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
        shared_cores: SharedCores | None = None,
    ) -> None:
        core = ov.Core()
        precision = _resolve(precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        if cache_dir is not None:
            core.set_property({"CACHE_DIR": str(cache_dir)})
        if threads is not None:
            core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads})
        graph = core.read_model(path)

        def compile_graph(batch: int, hint: str = "THROUGHPUT") -> CompiledGraph:
            config = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
            compiled = CompiledGraph(core.compile_model(prepare_graph(graph, pixels, outputs, batch), "CPU", config))
            compiled.warm_up(batch)
            return compiled

        single = compile_graph(1)
        self._throughput = {1: single}
        batch_sizes = _BATCH_SIZES if max_batch is None else batch_sizes_up_to(max_batch)
        if len(batch_sizes) > 1 and takes_batch(graph, pixels, outputs, batch_sizes[1]):
            with suppress(RuntimeError):  # a graph for one item may refuse two only when they are computed
                graphs = {1: single, batch_sizes[1]: compile_graph(batch_sizes[1])}
                if batches_independently(
                    lambda feeds: graphs[_count(feeds)].infer(feeds), single.inputs, count=batch_sizes[1]
                ):
                    self._throughput = graphs | {size: compile_graph(size) for size in batch_sizes[2:]}
        self._latency: CompiledGraph | None = compile_graph(1, "LATENCY") if single.streams > 1 else None
        self._spec = RuntimeSpec(
            inputs=single.inputs,
            outputs=single.outputs,
            batch_sizes=tuple(self._throughput),
            concurrency=single.streams,
            device=core.get_property("CPU", "FULL_DEVICE_NAME").strip(),
            precision="int8" if is_quantised(graph) else precision,
            on_cpu=True,
        )
        self._calls = ActiveCalls()
        self._shared_cores = shared_cores or SharedCores()
        self.release()

    @property
    def spec(self) -> RuntimeSpec:
        return self._spec

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        count = self._spec.check(feeds)
        with self._calls, self._shared_cores as alone:
            if alone and count == 1 and self._latency is not None:
                return self._latency.infer(feeds)
            parts = [
                self._throughput[stop - start].infer({name: array[start:stop] for name, array in feeds.items()})
                for start, stop in cut_into_batch_sizes(count, self._spec.batch_sizes)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: join_batches([part[name] for part in parts]) for name in parts[0]}

    def release(self, *, unused: bool = False) -> None:
        graphs = [*self._throughput.values(), *([] if self._latency is None else [self._latency])]
        if unused:
            # A flood fills batches that nobody needs after it, while others keep the server from being idle.
            released = [graph.release_if_unused() for graph in graphs]
            if any(released):
                return_freed_memory()
            return
        with self._calls.paused() as idle:
            if idle:
                for graph in graphs:
                    graph.release()
        return_freed_memory()

    def close(self) -> None:
        self._calls.close()
        self._throughput = {}
        self._latency = None


def _count(feeds: Arrays) -> int:
    return len(next(iter(feeds.values())))


def _resolve(precision: str, capabilities: Sequence[str]) -> str:
    if precision == "auto":
        return "bf16" if "BF16" in capabilities else "fp32"
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision {precision!r} is not one of auto, fp32, bf16")
    if precision == "bf16" and "BF16" not in capabilities:
        raise ValueError("this CPU does not compute in bf16; use precision auto or fp32")
    return precision
