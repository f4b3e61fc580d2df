"""Quantises a graph from fp32 to int8: Q/DQ nodes before every convolution and product with constant weights.

Weights are int8 and symmetric with a scale per output channel. Activations are 8 bits with one scale per tensor, taken
from the mean over images of each image's extremes (as NNCF's MIN_MAX: outliers of one image do not widen the range for
all). The mean shift of each channel by rounding is subtracted from its bias (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019, section 4.2, with real images instead of none).

Libraries fail the accuracy gate where this passes, because they leave no noisy nodes in fp32 (`NOISIEST`). Simple
Pose, calibrated on 64 crops of people and compared with fp32 on 64 others, everything run by OpenVINO: keypoints are
0.0034 of a crop off (0.0029 symmetric), against 0.0171 to 0.0183 with onnxruntime.quantization 1.31 (minimum and
maximum, or their moving average; these operators or all) and 0.0165 to 0.0179 with NNCF 3.4 (both presets, fast bias
correction). The gate allows 0.012. Told which nodes to leave in fp32, onnxruntime has 0.0035 (symmetric). Finding those
nodes is most of this module. `make bench ARGS=engines` compares with onnxruntime.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from engines.build.onnx.graphs import PrecisionError, is_float
from engines.build.precision.ranges import watch_tensors
from engines.inputs import Arrays
from engines.runtimes.onnxruntime.graphs import refill

OPSET = 13
"""The first opset with a scale per channel."""

NOISIEST = 0.03
"""A node stays in fp32 if int8 changes its output by more than this share of the output's spread.

Depthwise convolutions of RTMDet-nano reach 0.16, because one scale serves channels of all magnitudes. With all nodes in
int8, half of its boxes move by more than 1/50; with those above 0.06 in fp32, one box in four; with those above 0.03,
one in thirty. SimpleBaseline-R50 has no such node.
"""

_SHADOW = ".int8"  # suffix of the names of int8 copies of nodes and outputs while biases are corrected

Range = tuple[float, float]
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Target:
    """A node to quantise. weights: its second input. axis: the axis of the weights' output channels."""

    number: int
    node: NodeProto
    weights: NDArray[np.float32]
    axis: int


def quantise(model: ModelProto, calibration: Sequence[Arrays], *, symmetric: bool) -> dict[str, str]:
    """Quantise `model` in place.

    symmetric: activations are int8 around 0, the only form TensorRT takes; otherwise uint8 between the measured values.
    Returns the reason for each convolution or product that stays in fp32, by node. Raises PrecisionError without
    calibration.
    """
    if not calibration:
        raise PrecisionError("int8 needs calibration images: real ones, some dozens, as the network will see them")
    weights = {tensor.name: tensor for tensor in model.graph.initializer if is_float(tensor)}
    targets, kept = [], {}
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            continue
        if node.input[1] not in weights:
            kept[node.name] = "both factors are computed"
        elif node.op_type == "ConvTranspose" and _groups(node) > 1:
            kept[node.name] = "a deconvolution in groups, which OpenVINO computes in fp32 whatever it is given"
        else:
            values = numpy_helper.to_array(weights[node.input[1]])
            targets.append(_Target(number, node, values, _channel_axis(node)))
    with tempfile.TemporaryDirectory(prefix="posewire-int8-") as folder:
        graph = Path(folder) / "graph.onnx"
        onnx.save(model, graph)
        ranges = _ranges(graph, calibration, {target.node.input[0] for target in targets})
        kept |= {t.node.name: "its input cannot be measured" for t in targets if t.node.input[0] not in ranges}
        targets = [target for target in targets if target.node.name not in kept]
        writer = _Writer(ranges, symmetric)
        onnx.save(writer.shadowed(model, targets), graph)
        effects = _effects(graph, calibration, targets)
    noisy = {t.node.name: effects[t.node.output[0]].share for t in targets}
    kept |= {name: f"int8 changes {share:.0%} of it" for name, share in noisy.items() if share > NOISIEST}
    targets = [target for target in targets if target.node.name not in kept]
    for target in targets:
        if target.node.op_type != "MatMul":  # which has no bias
            effect = effects[target.node.output[0]]
            _add_to_bias(model, target, effect.shift / effect.images)
    writer.replace(model, targets)
    return kept


def _channel_axis(node: NodeProto) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if transposed else 1, "MatMul": -1}[node.op_type]


def _groups(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


def _ranges(graph: Path, calibration: Sequence[Arrays], names: set[str]) -> dict[str, Range]:
    """The mean over images of each tensor's smallest and largest value, widened to include 0."""
    sums: dict[str, Vector] = {}
    counts: dict[str, int] = {}

    def watch(name: str, value: NDArray[Any]) -> None:
        if name in names:
            items = value.reshape(len(value), -1)
            extremes = np.array([items.min(axis=1).sum(), items.max(axis=1).sum()], np.float64)
            sums[name] = sums.get(name, np.zeros(2)) + extremes
            counts[name] = counts.get(name, 0) + len(value)

    watch_tensors(graph, calibration, watch)
    means = {name: total / counts[name] for name, total in sums.items()}
    if broken := [name for name, mean in means.items() if not np.isfinite(mean).all()]:
        raise PrecisionError(f"the graph gives values that are no numbers on the calibration images: {broken[0]}")
    return {name: (min(float(low), 0.0), max(float(high), 0.0)) for name, (low, high) in means.items()}


@dataclass(slots=True)
class _Effect:
    """The effect of int8 on one target's output, summed over all images. shift: the decrease of each channel."""

    shift: Vector = field(default_factory=lambda: np.zeros(1))
    images: int = 0
    noise: float = 0.0
    spread: float = 0.0

    def add(self, plain: NDArray[np.float32], rounded: NDArray[np.float32], axis: int) -> None:
        """Add a batch of the output in fp32 and in int8."""
        apart = np.moveaxis(plain - rounded, axis, 0).reshape(plain.shape[axis], -1)
        self.shift = self.shift + apart.mean(axis=1, dtype=np.float64) * len(plain)
        self.images += len(plain)
        self.noise += float(np.square(apart).sum(dtype=np.float64))
        self.spread += float(np.square(plain - plain.mean()).sum(dtype=np.float64))

    @property
    def share(self) -> float:
        """The rounding noise as a share of the output's spread."""
        return float(np.sqrt(self.noise / max(self.spread, float(np.finfo(np.float32).tiny))))


def _effects(graph: Path, calibration: Sequence[Arrays], targets: Sequence[_Target]) -> dict[str, _Effect]:
    """The effect of int8 on each target, by the name of its output."""
    axes = {target.node.output[0]: -1 if target.node.op_type in ("Gemm", "MatMul") else 1 for target in targets}
    effects = {name: _Effect() for name in axes}
    waiting: dict[str, NDArray[np.float32]] = {}

    def watch(name: str, value: NDArray[Any]) -> None:
        plain = name.removesuffix(_SHADOW)
        if plain not in axes:
            return
        waiting[name] = value
        if plain in waiting and plain + _SHADOW in waiting:
            effects[plain].add(waiting.pop(plain), waiting.pop(plain + _SHADOW), axes[plain])

    watch_tensors(graph, calibration, watch)
    return effects


def _add_to_bias(model: ModelProto, target: _Target, shift: Vector) -> None:
    node = target.node
    if len(node.input) > 2:
        if node.input[2]:
            old = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[2])
            shift = shift + numpy_helper.to_array(old)
        del node.input[2]
    name = f"{node.name}.bias"
    model.graph.initializer.append(numpy_helper.from_array(shift.astype(np.float32), name))
    node.input.append(name)


class _Writer:
    """Inserts Q/DQ nodes into graphs. A tensor that several nodes read is quantised once."""

    def __init__(self, ranges: Mapping[str, Range], symmetric: bool) -> None:
        self._ranges = ranges
        self._symmetric = symmetric

    def shadowed(self, model: ModelProto, targets: Sequence[_Target]) -> ModelProto:
        """A copy in which each target is followed by an int8 copy of itself with the same fp32 input, as an output."""
        copy = ModelProto()
        copy.CopyFrom(model)
        nodes: dict[int, list[NodeProto]] = {}
        done: set[str] = set()
        for target in targets:
            rounded = NodeProto()
            rounded.CopyFrom(target.node)
            rounded.name += _SHADOW
            rounded.output[0] += _SHADOW
            nodes[target.number] = [target.node, *self._quantised(copy, rounded, target, done)]
            copy.graph.output.append(helper.make_empty_tensor_value_info(rounded.output[0]))
        _splice(copy, nodes)
        return copy

    def replace(self, model: ModelProto, targets: Sequence[_Target]) -> None:
        """Quantise the targets themselves, in place."""
        done: set[str] = set()
        nodes = {target.number: self._quantised(model, target.node, target, done) for target in targets}
        _splice(model, nodes)
        read = {name for node in model.graph.node for name in node.input} | {port.name for port in model.graph.output}
        refill(model.graph.initializer, (tensor for tensor in model.graph.initializer if tensor.name in read))
        del model.graph.value_info[:]

    def _quantised(self, model: ModelProto, node: NodeProto, target: _Target, done: set[str]) -> list[NodeProto]:
        """`node` with int8 inputs, after the Q/DQ nodes it needs. done: the tensors that have theirs already."""
        before: list[NodeProto] = []
        source, weights = target.node.input[0], f"{target.node.name}.weights"
        if source not in done:
            done.add(source)
            scale, zero = self._scale(self._ranges[source])
            _constants(model, source, scale, zero)
            names = [f"{source}.scale", f"{source}.zero"]
            before.append(helper.make_node("QuantizeLinear", [source, *names], [f"{source}.q"]))
            before.append(helper.make_node("DequantizeLinear", [f"{source}.q", *names], [f"{source}.dq"]))
        rounded, scales = _round_weights(target.weights, target.axis)
        _constants(model, weights, scales, np.zeros(len(scales), np.int8))
        model.graph.initializer.append(numpy_helper.from_array(rounded, f"{weights}.q"))
        names = [f"{weights}.{part}" for part in ("q", "scale", "zero")]
        axis = target.axis % target.weights.ndim
        before.append(helper.make_node("DequantizeLinear", names, [f"{weights}.dq"], axis=axis))
        node.input[0], node.input[1] = f"{source}.dq", f"{weights}.dq"
        return [*before, node]

    def _scale(self, between: Range) -> tuple[NDArray[np.float32], NDArray[Any]]:
        low, high = between
        tiny = float(np.finfo(np.float32).tiny)
        if self._symmetric:
            return np.array(max(-low, high, tiny) / 127, np.float32), np.zeros((), np.int8)
        scale = max((high - low) / 255, tiny)
        return np.array(scale, np.float32), np.array(round(-low / scale), np.uint8)


def _constants(model: ModelProto, name: str, scale: NDArray[np.float32], zero: NDArray[Any]) -> None:
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}.scale"))
    model.graph.initializer.append(numpy_helper.from_array(zero, f"{name}.zero"))


def _round_weights(weights: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    others = tuple(n for n in range(weights.ndim) if n != axis % weights.ndim)
    scales = np.abs(weights).max(axis=others, keepdims=True) / 127
    scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
    return np.round(weights / scales).astype(np.int8), scales.ravel()


def _splice(model: ModelProto, replaced: Mapping[int, Sequence[NodeProto]]) -> None:
    nodes = [new for number, node in enumerate(model.graph.node) for new in replaced.get(number, (node,))]
    copies = []
    for node in nodes:  # nodes are destroyed with the list they were taken from
        copies.append(NodeProto())
        copies[-1].CopyFrom(node)
    refill(model.graph.node, copies)
