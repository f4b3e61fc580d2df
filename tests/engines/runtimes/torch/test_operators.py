"""Each operator in torch against OpenVINO's, in a graph of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import openvino as ov
import pytest
from numpy.typing import NDArray
from openvino import opset10, opset11
from openvino import opset13 as op

pytest.importorskip("torch", reason="needs torch: pip install 'posewire[torch]'")

import torch

from engines.runtimes.torch.operators import OPERATORS
from engines.runtimes.torch.program import Constants, lower

Array = NDArray[Any]
Graph = Callable[..., ov.Node | ov.Output]
RNG = np.random.default_rng(11)


def numbers(*shape: int) -> Array:
    """Values around zero, some of them equal."""
    return np.round(RNG.normal(0, 2, shape), 1).astype(np.float32)


def positive(*shape: int) -> Array:
    return np.abs(numbers(*shape)) + np.float32(0.1)


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


def c(*values: float) -> ov.Node:
    """A float32 constant; a scalar if there is one value."""
    return op.constant(np.array(values[0] if len(values) == 1 else values, np.float32))


def k(*values: int) -> ov.Node:
    """A constant vector of integers."""
    return op.constant(whole(*values))


def s(value: int) -> ov.Node:
    """A constant integer."""
    return op.constant(np.int64(value))


def weights(*shape: int) -> ov.Node:
    return op.constant(numbers(*shape))


IMAGE = numbers(2, 4, 7, 6)
SQUARE = numbers(3, 4)


def _resized(mode: str, coordinates: str, scales: tuple[float, float], nearest: str = "round_prefer_floor") -> Graph:
    return lambda x: opset11.interpolate(
        x, c(*scales), mode, "scales", coordinate_transformation_mode=coordinates, nearest_mode=nearest, axes=k(2, 3)
    )


def _conv(**changes: Any) -> Graph:
    how: dict[str, Any] = {"strides": [1, 1], "pads_begin": [0, 0], "pads_end": [0, 0], "dilations": [1, 1]}
    return lambda x: op.convolution(x, weights(5, 4, 3, 2), **{**how, **changes})


def _deconv(*size: int, **changes: Any) -> Graph:
    how: dict[str, Any] = {"strides": [2, 2], "output_shape": k(*size) if size else None}
    return lambda x: op.convolution_backprop_data(x, weights(4, 3, 4, 3), **{**how, **changes})


def _max(**changes: Any) -> Graph:
    how: dict[str, Any] = {"strides": [2, 2], "dilations": [1, 1], "pads_begin": [0, 0], "pads_end": [0, 0]}
    return lambda x: op.max_pool(x, **{**how, "kernel_shape": [3, 3], **changes}).output(0)


def _avg(**changes: Any) -> Graph:
    how: dict[str, Any] = {"strides": [2, 2], "pads_begin": [1, 1], "pads_end": [1, 1], "kernel_shape": [3, 3]}
    return lambda x: op.avg_pool(x, **{**how, "exclude_pad": True, **changes})


def _suppress(boxes: ov.Node, scores: ov.Node, **how: Any) -> ov.Output:
    return op.non_max_suppression(boxes, scores, s(3), c(0.4), c(0.2), sort_result_descending=False, **how).output(0)


def _boxes(count: int) -> Array:
    corners = RNG.uniform(0, 60, (2, count, 2))
    return np.concatenate([corners, corners + RNG.uniform(10, 40, (2, count, 2))], 2).astype(np.float32)


UNARY: Mapping[str, Graph] = MappingProxyType(
    {
        "Abs": op.abs,
        "Ceiling": op.ceiling,
        "Clamp": lambda x: op.clamp(x, -1, 0.5),
        "Convert": lambda x: op.convert(x, "i32"),
        "Cos": op.cos,
        "Elu": lambda x: op.elu(x, 0.7),
        "Erf": op.erf,
        "Exp": op.exp,
        "Floor": op.floor,
        "Gelu": lambda x: op.gelu(x, "erf"),
        "Gelu by tanh": lambda x: op.gelu(x, "tanh"),
        "HSigmoid": op.hsigmoid,
        "HSwish": op.hswish,
        "HardSigmoid": lambda x: op.hard_sigmoid(x, c(0.3), c(0.4)),
        "Mish": op.mish,
        "Negative": op.negative,
        "PRelu": lambda x: op.prelu(x, c(0.1, -0.2, 0.3, 2)),
        "Relu": op.relu,
        "Round": lambda x: op.round(x, "half_to_even"),
        "Round away": lambda x: op.round(x, "half_away_from_zero"),
        "Sigmoid": op.sigmoid,
        "Sign": op.sign,
        "Sin": op.sin,
        "SoftPlus": op.softplus,
        "Swish": op.swish,
        "Swish of beta": lambda x: op.swish(x, c(0.5)),
        "Tanh": op.tanh,
        "FakeQuantize": lambda x: op.fake_quantize(x, c(-2.03), c(2), c(0), c(9), 16),
        "FakeQuantize a column": lambda x: op.fake_quantize(
            x, c(*range(-9, -3)), c(*range(1, 7)), c(*range(-9, -3)), c(*range(1, 7)), 256
        ),
    }
)
SHAPES: Mapping[str, Graph] = MappingProxyType(
    {
        "Broadcast": lambda x: op.broadcast(x, k(2, 2, 4, 7, 6), broadcast_spec="numpy"),
        "Broadcast both ways": lambda x: op.broadcast(x, k(3, 1, 4, 1, 6), broadcast_spec="bidirectional"),
        "DepthToSpace": lambda x: op.depth_to_space(x, "depth_first", 2),
        "DepthToSpace by blocks": lambda x: op.depth_to_space(x, "blocks_first", 2),
        "Gather": lambda x: op.gather(x, op.constant(np.array([[1, -1], [0, 2]])), s(1)),
        "Gather one": lambda x: op.gather(x, s(-2), s(-1)),
        "Pad": lambda x: op.pad(x, k(0, 0, 1, 2), k(0, 1, 0, 3), "constant", c(7)),
        "Pad of the edge": lambda x: op.pad(x, k(0, 0, 1, 2), k(0, 0, 0, 3), "edge"),
        "Pad mirrored": lambda x: op.pad(x, k(0, 0, 1, 2), k(0, 0, 0, 3), "reflect"),
        "Reshape": lambda x: op.reshape(x, k(0, -1, 21), special_zero=True),
        "Slice": lambda x: op.slice(x, k(1, 5), k(100, -100), k(2, -2), k(1, 3)),
        "Slice of all axes": lambda x: op.slice(x, k(0, 0, 1, 1), k(1, 3, 9, -1), k(1, 1, 1, 1)),
        "Split": lambda x: op.split(x, s(1), 2),
        "Squeeze": lambda x: op.squeeze(op.unsqueeze(x, k(0, 3)), k(0, 3)),
        "StridedSlice": lambda x: op.strided_slice(
            x, k(0, 3, 5, 1), k(9, 0, 0, 4), k(1, -1, -2, 1), [1, 0, 0, 0], [1, 1, 0, 0]
        ),
        "StridedSlice of new and lost axes": lambda x: op.strided_slice(
            x, k(0, 0, 2, 1), k(0, 0, 3, 5), k(1, 1, 1, 2), [0] * 4, [0] * 4, [0, 1, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0]
        ),
        "Tile": lambda x: op.tile(x, k(2, 1, 1, 3)),
        "Transpose": lambda x: op.transpose(x, k(3, 0, 2, 1)),
        "Unsqueeze": lambda x: op.unsqueeze(x, k(0, -1)),
        "VariadicSplit": lambda x: op.variadic_split(x, s(2), k(2, -1, 1)),
    }
)
REDUCTIONS: Mapping[str, Graph] = MappingProxyType(
    {
        "BatchNormInference": lambda x: op.batch_norm_inference(
            x, c(1, 2, 3, 4), c(0, 1, 0, 1), c(1, 0, 1, 0), c(1, 2, 1, 2), 1e-3
        ),
        "CumSum": lambda x: op.cum_sum(x, s(1)),
        "CumSum backwards": lambda x: op.cum_sum(x, s(-1), exclusive=True, reverse=True),
        "LogSoftmax": lambda x: op.log_softmax(x, 1),
        "MVN": lambda x: op.mvn(x, k(2, 3), True, 1e-5, "inside_sqrt"),
        "MVN outside": lambda x: op.mvn(x, k(1, 2, 3), True, 1e-2, "outside_sqrt"),
        "NormalizeL2": lambda x: op.normalize_l2(x, k(1), 1e-3, "add"),
        "NormalizeL2 max": lambda x: op.normalize_l2(x, k(1, 2), 1e-3, "max"),
        "ReduceL1": lambda x: op.reduce_l1(x, k(1, 3), True),
        "ReduceL2": lambda x: op.reduce_l2(x, k(-1), False),
        "ReduceMax": lambda x: op.reduce_max(x, k(2, 3), False),
        "ReduceMean": lambda x: op.reduce_mean(x, k(2, 3), True),
        "ReduceMin": lambda x: op.reduce_min(x, k(0), False),
        "ReduceProd": lambda x: op.reduce_prod(x, k(2), True),
        "ReduceSum": lambda x: op.reduce_sum(x, k(1, 2), False),
        "Softmax": lambda x: op.softmax(x, -1),
        "TopK": lambda x: op.topk(x, s(3), 1, "max", "value"),
        "TopK of the least": lambda x: op.topk(x, s(2), -1, "min", "index"),
        "TopK of one": lambda x: op.topk(x, s(1), 2, "max", "value"),
    }
)
WINDOWS: Mapping[str, Graph] = MappingProxyType(
    {
        "AvgPool": _avg(),
        "AvgPool with its border": _avg(exclude_pad=False, rounding_type="ceil"),
        "AvgPool aside": _avg(pads_end=[0, 2]),
        "AvgPool same": _avg(auto_pad="same_upper"),
        "Convolution": _conv(strides=[2, 1], pads_begin=[1, 1], pads_end=[1, 1], dilations=[1, 2]),
        "Convolution aside": _conv(pads_begin=[0, 1], pads_end=[2, 0]),
        "Convolution same": _conv(auto_pad="same_upper", strides=[2, 2]),
        "Convolution same before": _conv(auto_pad="same_lower", strides=[2, 2]),
        "Convolution valid": _conv(auto_pad="valid"),
        "GroupConvolution": lambda x: op.group_convolution(x, weights(2, 3, 2, 3, 3), [1, 1], [1, 1], [1, 1], [1, 1]),
        "ConvolutionBackpropData": _deconv(pads_begin=[1, 1], pads_end=[1, 1]),
        "ConvolutionBackpropData aside": _deconv(pads_begin=[1, 0], pads_end=[0, 1], output_padding=[1, 1]),
        "ConvolutionBackpropData of a size": _deconv(15, 12, auto_pad="same_upper"),
        "ConvolutionBackpropData of a size, before": _deconv(15, 12, auto_pad="same_lower"),
        "GroupConvolutionBackpropData": lambda x: op.group_convolution_backprop_data(
            x, weights(4, 1, 1, 4, 4), strides=[2, 2], pads_begin=[1, 1], pads_end=[1, 1]
        ),
        "MaxPool": _max(pads_begin=[1, 1], pads_end=[1, 1]),
        "MaxPool beyond the end": _max(rounding_type="ceil"),
        "MaxPool same": _max(auto_pad="same_upper"),
        "MaxPool aside": _max(pads_begin=[0, 2], pads_end=[2, 0]),
        "SpaceToDepth": lambda x: op.space_to_depth(op.pad(x, k(0, 0, 0, 0), k(0, 0, 1, 0), "edge"), "depth_first", 2),
        "SpaceToDepth by blocks": lambda x: op.space_to_depth(
            op.pad(x, k(0, 0, 0, 0), k(0, 0, 1, 0), "edge"), "blocks_first", 2
        ),
        "Interpolate": _resized("nearest", "asymmetric", (2, 2), "floor"),
        "Interpolate nearest": _resized("nearest", "half_pixel", (2, 3)),
        "Interpolate nearest above": _resized("nearest", "half_pixel", (1.5, 0.5), "round_prefer_ceil"),
        "Interpolate nearest simply": _resized("nearest", "asymmetric", (0.6, 1.7), "simple"),
        "Interpolate nearest as TensorFlow": _resized("nearest", "tf_half_pixel_for_nn", (1.4, 2), "floor"),
        "Interpolate linear": _resized("linear_onnx", "half_pixel", (2, 2)),
        "Interpolate linear to corners": _resized("linear_onnx", "align_corners", (2, 3)),
        "Interpolate linear asymmetric": _resized("linear_onnx", "asymmetric", (2, 2)),
        "Interpolate linear as torch": _resized("linear_onnx", "pytorch_half_pixel", (2, 1.5)),
        "Interpolate cubic": _resized("cubic", "half_pixel", (2, 2)),
        "Interpolate to sizes": lambda x: opset11.interpolate(
            x, k(5, 9), "linear_onnx", "sizes", coordinate_transformation_mode="half_pixel", axes=k(2, 3)
        ),
        "Interpolate of old": lambda x: opset10.interpolate(
            x,
            k(14, 12),
            c(2, 2),
            "linear_onnx",
            "sizes",
            coordinate_transformation_mode="align_corners",
            axes=k(2, 3),
        ),
        "Interpolate of old by scales": lambda x: opset10.interpolate(
            x, k(14, 12), c(2, 2), "nearest", "scales", coordinate_transformation_mode="asymmetric", axes=k(2, 3)
        ),
    }
)
BINARY = {
    "Add": op.add,
    "Divide": op.divide,
    "Equal": op.equal,
    "Greater": op.greater,
    "GreaterEqual": op.greater_equal,
    "Less": op.less,
    "LessEqual": op.less_equal,
    "Maximum": op.maximum,
    "Minimum": op.minimum,
    "Multiply": op.multiply,
    "NotEqual": op.not_equal,
    "SquaredDifference": op.squared_difference,
    "Subtract": op.subtract,
}
SEVERAL: Mapping[str, tuple[Graph, Sequence[Array]]] = MappingProxyType(
    {
        "Concat": (lambda a, b: op.concat([a, b], 1), (numbers(2, 3), numbers(2, 1))),
        "ConvertLike": (op.convert_like, (numbers(5), whole(1))),
        "Divide whole": (op.divide, (whole(7, 6, 9), whole(2, 2, 4))),
        "FloorMod": (op.floor_mod, (whole(-7, 7, 9), whole(2, -2, 4))),
        "Mod": (op.mod, (whole(-7, 7, 9), whole(2, -2, 4))),
        "Einsum": (lambda a, b: op.einsum([a, b], "bij,bkj->bik"), (numbers(2, 3, 4), numbers(2, 5, 4))),
        "GatherElements": (
            lambda x, i: op.gather_elements(x, i, 1),
            (SQUARE, np.array([[0, -1], [2, 1], [3, 3]])),
        ),
        "GatherND": (lambda x, i: op.gather_nd(x, i, 0), (SQUARE, np.array([[[0, 1]], [[2, 3]]]))),
        "GatherND in batches": (
            lambda x, i: op.gather_nd(x, i, 1),
            (numbers(2, 3, 4), np.array([[[2], [0]], [[1], [1]]])),
        ),
        "Gather in batches": (
            lambda x, i: op.gather(x, i, s(1), batch_dims=1),
            (numbers(2, 3, 4), np.array([[2, 0], [-1, 1]])),
        ),
        "Log": (op.log, (positive(9),)),
        "MatMul": (lambda a, b: op.matmul(a, b, False, True), (numbers(2, 3, 4), numbers(5, 4))),
        "MatMul turned": (lambda a, b: op.matmul(a, b, True, False), (numbers(4, 3), numbers(4, 2))),
        "NonMaxSuppression": (_suppress, (_boxes(30), RNG.uniform(0, 1, (2, 2, 30)).astype(np.float32))),
        "NonMaxSuppression of centres": (
            lambda b, v: _suppress(b, v, box_encoding="center"),
            (_boxes(30), RNG.uniform(0, 1, (2, 1, 30)).astype(np.float32)),
        ),
        "NonZero": (lambda x: op.non_zero(x, "i64"), (np.array([[0, 1, 0], [2, 0, 3]], np.float32),)),
        "OneHot": (lambda i: op.one_hot(i, s(4), c(2), c(-1), 1), (np.array([[0, 3], [1, 2]]),)),
        "Power": (op.power, (positive(2, 3), numbers(3))),
        "Range": (lambda a, b, d: op.range(a, b, d, "i64"), (np.array(1), np.array(10), np.array(4))),
        "ScatterElementsUpdate": (
            lambda x, i, u: op.scatter_elements_update(x, i, u, s(1)),
            (SQUARE, np.array([[0, -1], [2, 1], [3, 0]]), numbers(3, 2)),
        ),
        "ScatterNDUpdate": (op.scatter_nd_update, (SQUARE, np.array([[0], [2]]), numbers(2, 4))),
        "ScatterUpdate": (lambda x, i, u: op.scatter_update(x, i, u, s(1)), (SQUARE, whole(3, 0), numbers(3, 2))),
        "Select": (op.select, (np.array([[True], [False]]), numbers(2, 3), numbers(3))),
        "ShapeOf": (lambda x: op.shape_of(op.non_zero(x, "i64")), (numbers(3, 4),)),
        "Sqrt": (op.sqrt, (positive(9),)),
        "LogicalAnd": (op.logical_and, (np.array([True, True, False]), np.array([True, False, False]))),
        "LogicalOr": (op.logical_or, (np.array([True, True, False]), np.array([True, False, False]))),
        "LogicalXor": (op.logical_xor, (np.array([True, True, False]), np.array([True, False, False]))),
        "LogicalNot": (op.logical_not, (np.array([True, False]),)),
        "ReduceLogicalAnd": (lambda x: op.reduce_logical_and(x, k(1)), (np.array([[True, False], [True, True]]),)),
        "ReduceLogicalOr": (lambda x: op.reduce_logical_or(x, k(1)), (np.array([[True, False], [False, False]]),)),
        "IsNaN": (lambda x: op.is_nan(x), (np.array([1, np.nan, np.inf], np.float32),)),
        "IsFinite": (lambda x: op.is_finite(x), (np.array([1, np.nan, np.inf], np.float32),)),
    }
)
CASES: dict[str, tuple[Graph, Sequence[Array]]] = {
    **{name: (graph, (IMAGE,)) for table in (UNARY, SHAPES, REDUCTIONS, WINDOWS) for name, graph in table.items()},
    **{name: (graph, (numbers(2, 4, 5), positive(4, 1))) for name, graph in BINARY.items()},
    **SEVERAL,
}


@pytest.mark.parametrize("name", CASES)
def test_torch_gives_the_same_outputs_as_openvino(name: str) -> None:
    graph, arrays = CASES[name]
    inputs = [op.parameter(list(array.shape), array.dtype) for array in arrays]
    given = graph(*inputs)
    model = ov.Model([given] if isinstance(given, ov.Output) else given.outputs(), inputs)
    want = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(list(arrays))
    got = lower(model, None, Constants(torch.device("cpu")))(*map(torch.from_numpy, arrays))
    for output, result in zip(want.values(), got, strict=True):
        assert result.numpy().dtype == output.dtype
        np.testing.assert_allclose(result.numpy(), output, rtol=1e-4, atol=1e-5)


def test_every_operator_is_tested() -> None:
    tried = {name.split()[0] for name in CASES}
    assert tried >= set(OPERATORS), sorted(set(OPERATORS) - tried)
