"""Measures the values inside a graph on real inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engines.inputs import Arrays

Watch = Callable[[str, NDArray[np.float32]], None]
"""Called with the name of a tensor and its value for one batch."""


def watch_tensors(graph: Path, batches: Sequence[Arrays], watch: Watch) -> None:
    """Run the ONNX graph in fp32 on each of `batches` and call `watch` with every float tensor, inputs included.

    Nodes between Q/DQ nodes run in this CPU's own int8 kernels. Without VNNI these saturate, which then counts too.
    Tensors that the compiler has merged or folded away are left out.
    """
    core = ov.Core()
    model = core.read_model(graph)
    ports = [
        port
        for node in model.get_ordered_ops()
        if node.get_type_name() not in ("Constant", "Result", "Parameter")
        for port in node.outputs()
        if port.get_element_type() == ov.Type.f32 and port.get_names()
    ]
    present = {name for port in model.outputs for name in port.get_names()}
    model.add_outputs([port for port in ports if present.isdisjoint(port.get_names())])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    for feeds in batches:
        for name, value in feeds.items():
            if value.dtype == np.float32:
                watch(name, value)
        results = request.infer({name: np.ascontiguousarray(value) for name, value in feeds.items()})
        for port in compiled.outputs:
            if port.get_element_type() == ov.Type.f32:
                for name in port.get_names():
                    watch(name, results[port])


def largest_values(graph: Path, batches: Sequence[Arrays]) -> dict[str, float]:
    """The largest absolute value of each float tensor over all `batches`; infinite if one is not finite."""
    found: dict[str, float] = {}

    def watch(name: str, value: NDArray[Any]) -> None:
        largest = float(np.abs(value).max(initial=0.0))
        found[name] = max(found.get(name, 0.0), largest if np.isfinite(largest) else np.inf)

    watch_tensors(graph, batches, watch)
    return found
