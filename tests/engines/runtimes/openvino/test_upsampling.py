"""Pointwise convolutions are moved before upsampling if the result stays the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as op

from engines.runtimes.openvino.upsampling import convolve_before_upsampling

_RNG = np.random.default_rng(3)
_IMAGE = _RNG.normal(size=(2, 8, 5, 6)).astype(np.float32)


def enlarge(x: ov.Node, *, last: bool = False, mode: str = "linear_onnx", height: int = 10, width: int = 12) -> ov.Node:
    """Resize x, (n, c, h, w). last: with transposes to channels last and back, as in graphs read from TFLite."""
    sizes, axes = np.array([height, width]), np.array([1, 2] if last else [2, 3])
    if last:
        x = op.transpose(x, np.array([0, 2, 3, 1]))
    x = op.interpolate(x, sizes, mode, "sizes", axes=axes)
    return op.transpose(x, np.array([0, 3, 1, 2])) if last else x


def convolve(x: ov.Node, size: int = 1, stride: int = 1) -> ov.Node:
    """A convolution to 3 channels with bias and ReLU."""
    weights = np.random.default_rng(4).normal(size=(3, 8, size, size)).astype(np.float32)
    pads = [size // 2] * 2
    bias = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1)
    return op.relu(op.add(op.convolution(x, op.constant(weights), [stride] * 2, pads, pads, [1, 1]), op.constant(bias)))


def image() -> ov.Node:
    return op.parameter(_IMAGE.shape, ov.Type.f32, name="image")


def run(model: ov.Model) -> list[np.ndarray]:
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return list(compiled(_IMAGE).values())


def convolved_sizes(model: ov.Model) -> list[list[int]]:
    """The height and width of the outputs of all convolutions."""
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution"]
    return [list(node.output(0).shape)[2:] for node in nodes]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("mode", ["nearest", "linear_onnx"])
def test_swapping_gives_the_same_result(last: bool, mode: str) -> None:
    start = image()
    model = ov.Model([convolve(enlarge(start, last=last, mode=mode))], [start], "net")
    want = run(model)
    assert convolved_sizes(model) == [[10, 12]]
    convolve_before_upsampling(model)
    assert convolved_sizes(model) == [[5, 6]]
    np.testing.assert_allclose(run(model), want, atol=1e-5)


def bare(x: ov.Node, channels: int = 8) -> ov.Node:
    """A pointwise convolution that is an output of the graph."""
    return op.convolution(x, op.constant(np.ones((3, channels, 1, 1), np.float32)), [1, 1], [0, 0], [0, 0], [1, 1])


def along_channels(x: ov.Node) -> ov.Node:
    """Upsampling of the height and the channels."""
    last = op.transpose(x, np.array([0, 2, 3, 1]))
    large = op.interpolate(last, np.array([10, 16]), "linear", "sizes", axes=np.array([1, 3]))
    return op.relu(bare(op.transpose(large, np.array([0, 3, 1, 2])), 16))


def shared(x: ov.Node) -> list[ov.Node]:
    """The upsampled image is read twice."""
    large = enlarge(x)
    return [convolve(large), op.relu(large)]


@pytest.mark.parametrize(
    "build",
    [
        lambda x: [convolve(enlarge(x, height=3, width=4))],
        lambda x: [convolve(enlarge(x), size=3)],
        lambda x: [convolve(enlarge(x), stride=2)],
        lambda x: [convolve(enlarge(x, mode="cubic"))],
        lambda x: [bare(enlarge(x))],  # an output of the graph keeps its name
        lambda x: [along_channels(x)],
        lambda x: [op.relu(bare(op.transpose(x, np.array([0, 2, 1, 3])), 5))],
        lambda x: [op.relu(bare(op.transpose(op.relu(op.relu(x)), np.array([0, 2, 1, 3])), 5))],
        shared,
    ],
)
def test_graphs_that_would_not_gain_or_would_change_stay_as_they_are(build: Callable[[ov.Node], list[ov.Node]]) -> None:
    start = image()
    model = ov.Model(build(start), [start], "net")
    before, want = convolved_sizes(model), run(model)
    convolve_before_upsampling(model)
    assert convolved_sizes(model) == before
    for given, expected in zip(run(model), want, strict=True):
        np.testing.assert_array_equal(given, expected)
