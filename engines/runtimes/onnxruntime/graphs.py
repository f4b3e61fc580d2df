"""Prepares ONNX graphs: a free batch size, only the outputs that are read, and uint8 RGB input.

ONNX Runtime and TensorRT need all of this to be part of the graph. OpenVINO has steps of its own for it, see
`engines.runtimes.openvino.graphs`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from engines.inputs import PixelInput

BATCH = "n"
"""The name of the free batch dimension of a prepared graph."""
_WEIGHTS_ALONE = 4  # from this IR version on, weights need not be inputs as well


def prepare(model: ModelProto, pixels: PixelInput | None = None, outputs: Sequence[str] | None = None) -> ModelProto:
    """A copy of the graph with a free batch size, only the `outputs` (None: all), and `pixels` folded into its input.

    With pixels the graph takes (n, height, width, 3) uint8 RGB; its input keeps its name.
    Raises ValueError for outputs that the graph does not have, and with pixels if it does not take one image.
    """
    prepared = ModelProto()
    prepared.CopyFrom(model)
    graph = prepared.graph
    take_weights_from_inputs(prepared)
    mend_batch_norms(prepared)
    if outputs is not None:
        _keep_outputs(graph, outputs)
    if pixels is not None:
        _fold_pixels(graph, pixels)
    for value in graph.input:
        _free_batch(value)
    del graph.value_info[:]  # they describe the old batch and size
    declared = {value.name: value.type.tensor_type.shape.dim[:] for value in graph.output}
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(prepared, data_prop=True)
    for value in inferred.graph.output:
        if not value.type.tensor_type.HasField("shape"):  # nothing is inferred through suppression
            value.type.tensor_type.shape.dim.extend(declared[value.name])
            _free_batch(value)
    return inferred


def take_weights_from_inputs(model: ModelProto) -> None:
    """Make constants of weights that are also inputs, as all are up to IR version 3."""
    weights = {tensor.name for tensor in model.graph.initializer}
    refill(model.graph.input, (port for port in model.graph.input if port.name not in weights))
    model.ir_version = max(model.ir_version, _WEIGHTS_ALONE)


def refill(field: Any, items: Iterable[object]) -> None:
    """Replace the items of a repeated field by `items`, which may be computed from the old ones."""
    kept = list(items)
    del field[:]
    field.extend(kept)


def mend_batch_norms(model: ModelProto) -> None:
    """Remove the attribute spatial=0 (statistics per pixel) from batch norms whose statistics are per channel.

    MXNet exported such nodes; every runtime goes by the shape of the statistics.
    """
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and ranks.get(node.input[1]) == 1:
            refill(node.attribute, (attribute for attribute in node.attribute if attribute.name != "spatial"))


def inner_graphs(node: NodeProto) -> Iterable[GraphProto]:
    """The bodies of If, Loop and Scan, which may read tensors of the graph around them."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def names_inside(node: NodeProto) -> set[str]:
    """The names of the tensors that the graphs inside a node may read from outside."""
    names: set[str] = set()
    for graph in inner_graphs(node):
        names.update(value.name for value in graph.output)  # a body may pass on an outer tensor unchanged
        for inner in graph.node:
            names |= {*inner.input, *names_inside(inner)}
    return names


def prune(graph: GraphProto, wanted: Collection[str]) -> None:
    """Remove the nodes and constants of `graph` that the tensors `wanted` do not depend on."""
    needed_names = set(wanted)
    needed: list[NodeProto] = []
    for node in reversed(graph.node):  # the nodes of a graph are in topological order
        if needed_names.intersection(node.output):
            needed.append(node)
            needed_names |= {*node.input, *names_inside(node)}
    refill(graph.node, reversed(needed))
    refill(graph.initializer, (tensor for tensor in graph.initializer if tensor.name in needed_names))


def _keep_outputs(graph: GraphProto, names: Sequence[str]) -> None:
    have = {value.name: value for value in graph.output}
    if missing := [name for name in names if name not in have]:
        raise ValueError(f"the graph has no output {', '.join(missing)}; it has {', '.join(have)}")
    refill(graph.output, (value for name, value in have.items() if name in names))  # in their order, as in OpenVINO
    prune(graph, names)


def _fold_pixels(graph: GraphProto, pixels: PixelInput) -> None:
    _fix_sizes(graph, pixels)
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
    shape: list[str | int | None] = [BATCH, pixels.height, pixels.width, 3]
    image.CopyFrom(helper.make_tensor_value_info(image.name, TensorProto.UINT8, shape))


def _fix_sizes(graph: GraphProto, pixels: PixelInput) -> None:
    """Make constants of inputs (n, 2) beside the image: DETR's kind of graph scales its results to such a size.

    Their value is the width and height of the input, so that results are in input pixels.
    """
    sizes = {
        value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        for value in graph.input[1:]
        if [dim.dim_value for dim in value.type.tensor_type.shape.dim][1:] == [2]
    }
    size = [[pixels.width, pixels.height]]
    graph.initializer.extend(numpy_helper.from_array(np.array(size, dtype), name) for name, dtype in sizes.items())
    refill(graph.input, (value for value in graph.input if value.name not in sizes))


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
        value.type.tensor_type.shape.dim[0].dim_param = BATCH


def _rename_reads(node: NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if name == old else name for name in node.input]
    for graph in inner_graphs(node):
        for inner in graph.node:
            _rename_reads(inner, old, new)
