"""Reads, prunes, inspects and saves ONNX graphs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import onnx
import onnxscript.optimizer
import onnxscript.rewriter
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from engines.files import published

_WEIGHTS_ALONE = 4  # from this IR version on, weights need not be inputs as well

Types = dict[str, int]
"""The element type (onnx.TensorProto) of each tensor of a graph, by name."""


class PrecisionError(RuntimeError):
    """The graph cannot be converted to that precision; the message says why."""


def read_prepared(path: Path, opset: int) -> ModelProto:
    """Read the graph at `path` and prepare it for a change of its precision, in the operators of `opset` or newer.

    Constants are folded. Batch normalisation is folded into the convolution before it, so that it is rounded once and
    a variance too small for fp16 does no harm. Raises PrecisionError if the graph cannot be read or converted to
    `opset`.
    """
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise PrecisionError(f"{path} is not an ONNX graph: {error}") from error
    take_weights_from_inputs(model)
    _mend_batch_norms(model)
    try:
        if opset_of(model) < opset:
            model = onnx.version_converter.convert_version(model, opset)
        model = onnxscript.optimizer.optimize(model)
        model = onnxscript.rewriter.rewrite(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise PrecisionError(f"{path} cannot be brought to opset {opset}: {error}") from error
    lift_constants(model)
    return model


def take_weights_from_inputs(model: ModelProto) -> None:
    """Make constants of weights that are also inputs, as all are up to IR version 3."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _WEIGHTS_ALONE)


def _mend_batch_norms(model: ModelProto) -> None:
    """Remove the attribute spatial=0 (statistics per pixel) from batch norms whose statistics are per channel.

    MXNet exported such nodes; every runtime goes by the shape of the statistics.
    """
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and ranks.get(node.input[1]) == 1:
            attributes = [attribute for attribute in node.attribute if attribute.name != "spatial"]
            del node.attribute[:]
            node.attribute.extend(attributes)


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's standard operators that the graph uses."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def lift_constants(model: ModelProto) -> None:
    """Turn Constant nodes into initializers, so that there is only one kind of constant."""
    kept = []
    for node in model.graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None) if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
            continue
        tensor = model.graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = node.output[0]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def types_of(model: ModelProto) -> Types:
    """The element types of all tensors whose type is known. Raises PrecisionError if they contradict each other."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise PrecisionError(f"the graph's types do not fit together: {error}") from error
    ports = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {port.name: port.type.tensor_type.elem_type for port in ports if port.type.HasField("tensor_type")}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def inner_graphs(node: NodeProto) -> Iterable[GraphProto]:
    """The bodies of If, Loop and Scan, which may read tensors of the graph around them."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def has_graph_inside(node: NodeProto) -> bool:
    """True if the node is an If, Loop or Scan, which contain graphs."""
    return any(True for _ in inner_graphs(node))


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
    kept = [tensor for tensor in graph.initializer if tensor.name in needed_names]
    del graph.node[:]
    graph.node.extend(reversed(needed))
    del graph.initializer[:]
    graph.initializer.extend(kept)


def save_whole(model: ModelProto, path: Path) -> None:
    """Check the graph's types and write it atomically. Raises PrecisionError if the types contradict each other."""
    del model.graph.value_info[:]
    types_of(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with published(path) as draft:
        onnx.save(model, draft)


def is_float(tensor: TensorProto) -> bool:
    """True if a constant is fp32."""
    return tensor.data_type == TensorProto.FLOAT
