"""Prepares an ONNX graph for TensorRT: a free batch size, only the outputs that are read, and uint8 RGB input.

`engines.runtimes.openvino.runtime` does this when it opens a graph; for TensorRT it has to be part of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from engines.build.onnx.graphs import inner_graphs, prune, refill, take_weights_from_inputs
from engines.inputs import PixelInput

_BATCH = "n"


def prepare(model: ModelProto, pixels: PixelInput | None = None, outputs: Sequence[str] | None = None) -> ModelProto:
    """A copy of the graph with a free batch size, only the `outputs` (None: all), and `pixels` folded into its input.

    With pixels the graph takes (n, height, width, 3) uint8 RGB; its input keeps its name.
    Raises ValueError for outputs that the graph does not have, and with pixels if it does not take one image.
    """
    prepared = ModelProto()
    prepared.CopyFrom(model)
    graph = prepared.graph
    take_weights_from_inputs(prepared)
    if outputs is not None:
        _keep_outputs(graph, outputs)
    if pixels is not None:
        _fold_pixels(graph, pixels)
    for value in graph.input:
        _free_batch(value)
    del graph.value_info[:]  # they describe the old batch and size
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    return onnx.shape_inference.infer_shapes(prepared, data_prop=True)


def _keep_outputs(graph: GraphProto, names: Sequence[str]) -> None:
    have = {value.name: value for value in graph.output}
    if missing := [name for name in names if name not in have]:
        raise ValueError(f"the graph has no output {', '.join(missing)}; it has {', '.join(have)}")
    refill(graph.output, (value for name, value in have.items() if name in names))  # in their order, as in OpenVINO
    prune(graph, names)


def _fold_pixels(graph: GraphProto, pixels: PixelInput) -> None:
    if len(graph.input) != 1:
        names = ", ".join(value.name for value in graph.input)
        raise ValueError(f"pixels are folded into a graph with one input; this has {len(graph.input)}: {names}")
    (image,) = graph.input
    sides = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    if len(sides) != 4 or 3 not in (sides[1], sides[3]):
        raise ValueError(f"{image.name} is not an image with three channels: {sides}")
    channels_first, network_type = sides[1] == 3, image.type.tensor_type.elem_type
    inner = f"{image.name}/normalised"
    for node in graph.node:
        _rename_reads(node, image.name, inner)
    steps = _normalising(image.name, inner, pixels, network_type, channels_first=channels_first)
    refill(graph.node, [*steps, *graph.node])
    graph.initializer.extend(_constants(image.name, pixels))
    shape: list[str | int | None] = [_BATCH, pixels.height, pixels.width, 3]
    image.CopyFrom(helper.make_tensor_value_info(image.name, TensorProto.UINT8, shape))


def _normalising(
    outer: str, inner: str, pixels: PixelInput, network_type: int, *, channels_first: bool
) -> list[NodeProto]:
    """The nodes for `(x[order] - mean) / std`, in float32 regardless of the network's own type."""
    steps: list[tuple[str, list[str], dict[str, Any]]] = [("Cast", [], {"to": TensorProto.FLOAT})]
    if pixels.order == "bgr":
        steps.append(("Gather", [f"{outer}/order"], {"axis": 3}))
    steps += [("Sub", [f"{outer}/mean"], {}), ("Div", [f"{outer}/std"], {})]
    if channels_first:
        steps.append(("Transpose", [], {"perm": [0, 3, 1, 2]}))
    if network_type != TensorProto.FLOAT:
        steps.append(("Cast", [], {"to": network_type}))
    nodes = []
    given = outer
    for number, (operator, constants, attributes) in enumerate(steps, 1):
        result = inner if number == len(steps) else f"{outer}/pixels_{number}"
        nodes.append(helper.make_node(operator, [given, *constants], [result], name=result, **attributes))
        given = result
    return nodes


def _constants(outer: str, pixels: PixelInput) -> list[TensorProto]:
    values: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        "mean": np.array(pixels.mean, np.float32),
        "std": np.array(pixels.std, np.float32),
    }
    if pixels.order == "bgr":
        values["order"] = np.array([2, 1, 0], np.int64)
    return [numpy_helper.from_array(array, f"{outer}/{name}") for name, array in values.items()]


def _free_batch(value: ValueInfoProto) -> None:
    if value.type.tensor_type.shape.dim:
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH


def _rename_reads(node: NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]
    for graph in inner_graphs(node):
        for inner in graph.node:
            _rename_reads(inner, old, new)
