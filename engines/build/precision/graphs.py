"""An ONNX graph made ready for a change of its precision: newer operators, folded constants, known types."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxscript.optimizer
import onnxscript.rewriter
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto

_WEIGHTS_ALONE = 4  # the IR version from which weights need not be inputs, too

Types = dict[str, int]
"""The element type (onnx.TensorProto) of each tensor of a graph, by name."""


class PrecisionError(RuntimeError):
    """The graph cannot be had in that precision; the message says why."""


def read_prepared(path: Path, opset: int) -> ModelProto:
    """The graph at `path` with the operators of `opset` or newer.

    Constants are folded and batch normalisation is part of the convolution before it: so it is rounded once, and a
    variance below what fp16 can tell from 0 does not count. Raises PrecisionError where it cannot be read or brought
    to `opset`.
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
    """Up to IR version 3 weights are inputs too, and so no constants."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, _WEIGHTS_ALONE)


def _mend_batch_norms(model: ModelProto) -> None:
    """MXNet wrote spatial=0 (statistics for every pixel) beside statistics per channel; every runtime goes by those."""
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and ranks.get(node.input[1]) == 1:
            attributes = [attribute for attribute in node.attribute if attribute.name != "spatial"]
            del node.attribute[:]
            node.attribute.extend(attributes)


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a graph is written in."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def lift_constants(model: ModelProto) -> None:
    """Turn Constant nodes into initializers, so that there is one kind of constant."""
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
    """The element type of every tensor that has a known one. Raises PrecisionError for contradictions."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise PrecisionError(f"the graph's types do not fit together: {error}") from error
    ports = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {port.name: port.type.tensor_type.elem_type for port in ports if port.type.HasField("tensor_type")}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def names_inside(node: NodeProto) -> set[str]:
    """The tensors that graphs inside of a node (the branches of an If, the body of a Loop) may read from outside."""
    found: set[str] = set()
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                found |= {*inner.input, *names_inside(inner)}
            found |= {port.name for port in graph.output}
    return found


def has_graph_inside(node: NodeProto) -> bool:
    """Whether the node is an If, a Loop or another that runs a graph of its own."""
    return any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.attribute)


def save_whole(model: ModelProto, path: Path) -> None:
    """Write a graph whose types are proved to fit together; the file appears whole or not at all."""
    del model.graph.value_info[:]
    types_of(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".precision-") as folder:
        draft = Path(folder) / path.name
        onnx.save(model, draft)
        draft.replace(path)


def is_float(tensor: TensorProto) -> bool:
    """Whether a constant is in fp32."""
    return tensor.data_type == TensorProto.FLOAT
