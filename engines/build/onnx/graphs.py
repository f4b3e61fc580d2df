"""Reads, inspects and saves ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxscript.optimizer
import onnxscript.rewriter
from google.protobuf.message import DecodeError
from onnx import ModelProto, NodeProto, TensorProto

from engines.files import published
from engines.runtimes.onnxruntime.graphs import inner_graphs, mend_batch_norms, refill, take_weights_from_inputs

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
    mend_batch_norms(model)
    try:
        if opset_of(model) < opset:
            model = onnx.version_converter.convert_version(model, opset)
        model = onnxscript.optimizer.optimize(model)
        model = onnxscript.rewriter.rewrite(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise PrecisionError(f"{path} cannot be brought to opset {opset}: {error}") from error
    lift_constants(model)
    return model


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
    refill(model.graph.node, kept)


def types_of(model: ModelProto) -> Types:
    """The element types of all tensors whose type is known. Raises PrecisionError if they contradict each other."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError) as error:
        raise PrecisionError(f"the graph's types do not fit together: {error}") from error
    ports = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {port.name: port.type.tensor_type.elem_type for port in ports if port.type.HasField("tensor_type")}
    return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def has_graph_inside(node: NodeProto) -> bool:
    """True if the node is an If, Loop or Scan, which contain graphs."""
    return any(True for _ in inner_graphs(node))


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
