"""OpenVINO on the CPU: ONNX, OpenVINO IR and TFLite graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino as ov
from numpy.typing import NDArray

from engines.runtimes.base import Arrays, PixelInput, RuntimeSpec, batch_sizes_up_to, batches_independently, join_rungs
from engines.runtimes.calls import Calls, Company
from engines.runtimes.openvino.batch_graphs import BatchGraphs
from engines.runtimes.openvino.compiled import CompiledGraph
from engines.runtimes.openvino.graphs import gives_an_output_per_item, is_quantised, read_graph
from engines.runtimes.openvino.memory import return_freed_memory

_MAX_BATCH = 4  # on a CPU the time per item is flat from here, so a larger batch would only add latency and memory


class OpenVinoRuntime:
    """One graph compiled in two ways: `many` runs a call per stream of cores, which gives the most items a second;
    `one` runs a single item on all cores, which answers soonest. An item that finds itself alone takes `one`.

    `many` is a graph for each rung, as OpenVINO fuses less in one for batches of any size.

    path: .onnx, .xml or .tflite. pixels: fold uint8 RGB preprocessing into the graph's only input.
    outputs: keep these outputs alone; what only the others need is cut off.
    precision: "fp32", "bf16", or "auto": bf16 where the CPU computes in it. A graph with Q/DQ nodes is computed in int8
    between them whatever is asked for, and its spec says so. threads: cores to compute on, None for all.
    sparing: compile rungs above one only when a batch first wants them, and drop them in `release`. It needs the file
    at `path` as long, and what comes out may depend on it in its last bits.
    company: who else computes on these cores.
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
        sparing: bool = False,
        company: Company | None = None,
    ) -> None:
        core = ov.Core()
        precision = _resolve(precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        if cache_dir is not None:
            core.set_property({"CACHE_DIR": str(cache_dir)})
        if threads is not None:
            core.set_property("CPU", {"INFERENCE_NUM_THREADS": threads})
        file = _identity(path)

        def compiled(batch: int, hint: str = "THROUGHPUT") -> CompiledGraph:
            if _identity(path) != file:
                raise RuntimeError(f"{path} is another file than it was")
            config = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
            graph = CompiledGraph(core.compile_model(read_graph(core, path, pixels, outputs, batch), "CPU", config))
            graph.warm_up(batch)
            return graph

        single = compiled(1)
        batch_sizes: tuple[int, ...] = (1,)
        ready = {1: single}
        if max_batch != 1 and gives_an_output_per_item(read_graph(core, path, pixels, outputs, 2)):
            pair = compiled(2)
            if batches_independently(lambda feeds: _of_size(feeds, single, pair).infer(feeds), single.inputs):
                batch_sizes = batch_sizes_up_to(max_batch or _MAX_BATCH)
                if not sparing:
                    ready |= {
                        batch_size: pair if batch_size == 2 else compiled(batch_size) for batch_size in batch_sizes[1:]
                    }
        self._many = BatchGraphs(ready, [batch_size for batch_size in batch_sizes if batch_size not in ready], compiled)
        self._one: CompiledGraph | None = compiled(1, "LATENCY") if single.streams > 1 else None
        self._spec = RuntimeSpec(
            inputs=single.inputs,
            outputs=single.outputs,
            batch_sizes=batch_sizes,
            concurrency=single.streams,
            device=core.get_property("CPU", "FULL_DEVICE_NAME").strip(),
            precision="int8" if is_quantised(core.read_model(path)) else precision,
        )
        self._calls = Calls()
        self._company = company or Company()
        self.release()

    @property
    def spec(self) -> RuntimeSpec:
        """See `Runtime.spec`."""
        return self._spec

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """See `Runtime.run`."""
        count = self._spec.check(feeds)
        with self._calls, self._company as alone:
            if alone and count == 1 and self._one is not None:
                return self._one.infer(feeds)
            parts = [
                graph.infer({name: array[piece] for name, array in feeds.items()})
                for graph, piece in self._many.cut(count)
            ]
        if len(parts) == 1:
            return parts[0]
        return {name: join_rungs([part[name] for part in parts]) for name in parts[0]}

    def release(self) -> None:
        """See `Runtime.release`."""
        with self._calls.held_up() as idle:
            if idle:
                self._many.shrink()
                if self._one is not None:
                    self._one.release()
        return_freed_memory()

    def close(self) -> None:
        """See `Runtime.close`."""
        self._calls.close()
        self._many.close()
        self._one = None


def _of_size(feeds: Arrays, single: CompiledGraph, pair: CompiledGraph) -> CompiledGraph:
    return pair if len(next(iter(feeds.values()))) == 2 else single


def _identity(path: Path) -> list[tuple[int, int, int]]:
    """Tells a graph's files from others that come to stand in their place."""
    files = [file.stat() for file in (path, path.with_suffix(".bin")) if file.exists()]
    return [(file.st_ino, file.st_size, file.st_mtime_ns) for file in files]


def _resolve(precision: str, capabilities: Sequence[str]) -> str:
    if precision == "auto":
        return "bf16" if "BF16" in capabilities else "fp32"
    if precision not in ("fp32", "bf16"):
        raise ValueError(f"precision {precision!r} is not one of auto, fp32, bf16")
    if precision == "bf16" and "BF16" not in capabilities:
        raise ValueError("this CPU does not compute in bf16; use precision auto or fp32")
    return precision
