"""Converts a graph from fp32 to fp16 or bf16 where that is safe, as a strongly typed graph for TensorRT 11.

These nodes stay in fp32:
- nodes before the first convolution or product: they normalise pixels, and bf16 would round the mean to whole numbers;
- nodes after the last convolution or product: they decode boxes and scores, which costs little and decides the accuracy
  (at 640 pixels fp16 resolves half a pixel, bf16 four);
- operators that accumulate or magnify rounding errors: exponentials, norms, sums over a map, sorting, suppression;
- operators that ONNX does not define for the type;
- for fp16, nodes whose measured values come near its largest value, 65504.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from engines.build.onnx.graphs import has_graph_inside, is_float, opset_of, types_of
from engines.runtimes.onnxruntime.graphs import names_inside, refill

Low = Literal["fp16", "bf16"]

OPSETS: Mapping[Low, int] = {"fp16": 13, "bf16": 22}
"""The lowest opset for graphs of each precision: convolutions in bf16 came with 22."""
FP16_MAX = 65504.0
HEADROOM = 8.0
"""The factor by which fp16 values may exceed the measured ones on other images."""

_TYPES: Mapping[Low, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_SCHEMA_TYPES: Mapping[Low, str] = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}
_DTYPES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}

_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
_SENSITIVE = frozenset(
    {
        *("Softmax", "LogSoftmax", "Softplus", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Erf", "Tan", "Sinh", "Cosh"),
        *("ReduceSum", "ReduceMean", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum"),
        *("ReduceLogSumExp", "CumSum", "GlobalAveragePool", "GlobalLpPool", "LpNormalization", "LpPool"),
        *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization"),
        *("MeanVarianceNormalization", "BatchNormalization"),
        *("NonMaxSuppression", "TopK", "RoiAlign", "MaxRoiPool", "GridSample", "AffineGrid", "ArgMax", "ArgMin"),
        *("Cast", "CastLike", "Range", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
    }
)


def lower(model: ModelProto, precision: Low, largest: Mapping[str, float]) -> dict[str, str]:
    """Convert `model` in place. Its inputs and outputs stay fp32; casts are inserted where the precision changes.

    largest: the largest measured absolute values by tensor; empty if nothing was measured.
    Returns the reason for each floating-point node that stays fp32, by node; the others are in `precision`.
    """
    types = types_of(model)
    floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
    typed = set(types)
    weights = {tensor.name: tensor for tensor in model.graph.initializer if is_float(tensor)}
    opset = opset_of(model)
    fed, feeding = _fed_by_heavy(model.graph.node), _feeding_heavy(model.graph.node)
    kept: dict[str, str] = {}
    writer = _Writer(precision, weights)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
        slots = _slots(node, opset, precision)
        reads = [name for name in node.input if name in floats]
        makes = [name for name in node.output if name in floats]
        if not reads and not makes and not has_graph_inside(node):
            writer.copy(node)
            continue
        reason = ""
        if has_graph_inside(node):
            reason = "runs a graph of its own"
        elif not reads or not typed.issuperset(name for name in node.output if name):
            reason = "types"
        elif slots is None:
            reason = f"{node.op_type} is not defined for {precision} at opset {opset}"
        elif node.op_type in _SENSITIVE:
            reason = "sensitive"
        elif number not in fed:
            reason = "before the first convolution"
        elif number not in feeding:
            reason = "feeds no further convolution"
        elif precision == "fp16":
            reason = _overflow([*reads, *makes], weights, largest)
        if reason or slots is None:
            kept[node.name] = reason
            writer.keep(node, floats)
        else:
            writer.lower(node, floats, *slots)
    writer.finish(model)
    return kept


def _feeding_heavy(nodes: Sequence[NodeProto]) -> set[int]:
    """The heavy nodes, and the nodes whose values reach one without passing a node that always stays fp32."""
    wanted: set[str] = set()
    found = set()
    for number in range(len(nodes) - 1, -1, -1):
        node = nodes[number]
        fixed = node.op_type in _SENSITIVE or has_graph_inside(node)
        if node.op_type in _HEAVY or (not fixed and wanted.intersection(node.output)):
            found.add(number)
            wanted.update(node.input)
    return found


def _fed_by_heavy(nodes: Sequence[NodeProto]) -> set[int]:
    """The heavy nodes, and the nodes that depend on one."""
    made: set[str] = set()
    found = set()
    for number, node in enumerate(nodes):
        if node.op_type in _HEAVY or made.intersection(node.input):
            found.add(number)
            made.update(node.output)
    return found


def _slots(node: NodeProto, opset: int, precision: Low) -> tuple[set[int], set[int]] | None:
    """The indices of the node's inputs and outputs that ONNX allows in `precision`; None if its first input may not."""
    if node.domain not in ("", "ai.onnx"):
        return None
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    low = _SCHEMA_TYPES[precision]
    allowed = {kind.type_param_str for kind in schema.type_constraints if low in kind.allowed_type_strs}

    def fitting(count: int, ports: Sequence[onnx.defs.OpSchema.FormalParameter]) -> set[int]:
        return {n for n in range(count) if ports and ports[min(n, len(ports) - 1)].type_str in allowed}

    inputs = fitting(len(node.input), schema.inputs)
    if node.op_type == "Resize":
        inputs &= {0}  # TensorRT takes its region and scales only in fp32
    return (inputs, fitting(len(node.output), schema.outputs)) if 0 in inputs else None


def _overflow(names: Sequence[str], weights: Mapping[str, TensorProto], largest: Mapping[str, float]) -> str:
    for name in names:
        if name in weights and np.abs(numpy_helper.to_array(weights[name])).max(initial=0.0) > FP16_MAX:
            return "a weight is above fp16"
        if largest.get(name, 0.0) > FP16_MAX / HEADROOM:
            return f"values up to {largest[name]:.3g} come near to what fp16 can hold"
    return ""


class _Writer:
    """Rewrites the nodes. A tensor keeps its name in fp32; in low precision its name gets a suffix."""

    def __init__(self, precision: Low, weights: Mapping[str, TensorProto]) -> None:
        self._precision = precision
        self._weights = weights
        self._nodes: list[NodeProto] = []
        self._low_weights: dict[str, TensorProto] = {}
        self._made: set[str] = set()  # low tensors that exist
        self._only_low: set[str] = set()  # tensors that exist in low precision and not in fp32

    def copy(self, node: NodeProto) -> None:
        """Add a node without floats."""
        self._nodes.append(node)

    def keep(self, node: NodeProto, floats: set[str]) -> None:
        """Add a node that computes in fp32."""
        for name in sorted({*node.input, *names_inside(node)} & floats):
            self._raise(name)
        self._nodes.append(node)

    def lower(self, node: NodeProto, floats: set[str], inputs: set[int], outputs: set[int]) -> None:
        """Add a node whose `inputs` and `outputs` (indices) are in low precision."""
        for n, name in enumerate(node.input):
            if name in floats and n in inputs:
                node.input[n] = self._low(name)
            elif name in floats:
                self._raise(name)
        self._nodes.append(node)
        for n, name in enumerate(node.output):
            if name in floats and n in outputs:
                node.output[n] = self._named(name)
                self._made.add(name)
                self._only_low.add(name)

    def finish(self, model: ModelProto) -> None:
        """Replace the nodes and constants of `model`."""
        for port in model.graph.output:
            self._raise(port.name)
        refill(model.graph.node, self._nodes)
        read = {name for node in self._nodes for name in (*node.input, *names_inside(node))}
        read |= {port.name for port in model.graph.output}
        kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
        refill(model.graph.initializer, [*kept, *self._low_weights.values()])
        del model.graph.value_info[:]

    def _named(self, name: str) -> str:
        return f"{name}.{self._precision}"

    def _raise(self, name: str) -> None:
        if name in self._only_low:
            self._only_low.remove(name)
            self._cast(self._named(name), name, TensorProto.FLOAT)

    def _low(self, name: str) -> str:
        if name in self._weights:
            self._round(self._weights[name])
        elif name not in self._made:
            self._made.add(name)
            self._cast(name, self._named(name), _TYPES[self._precision])
        return self._named(name)

    def _cast(self, source: str, target: str, to: int) -> None:
        self._nodes.append(helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to))

    def _round(self, weight: TensorProto) -> None:
        name = self._named(weight.name)
        if name not in self._low_weights:
            values = numpy_helper.to_array(weight).astype(_DTYPES[self._precision])
            self._low_weights[name] = numpy_helper.from_array(values, name)
