"""A tiny network with two outputs, as a file in each format that runtimes open, and in numpy as the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op

from engines.runtimes import PixelInput

HEIGHT, WIDTH, KEYPOINTS = 64, 48, 5
PIXELS = PixelInput(HEIGHT, WIDTH, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
INPUT, HEATMAPS, MEANS = "image", "heatmaps", "means"

Floats = NDArray[np.float32]


def crops(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random crops: (n, 64, 48, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 255, (count, HEIGHT, WIDTH, 3), np.uint8)


def normalised(images: NDArray[np.uint8], pixels: PixelInput = PIXELS) -> Floats:
    """The input of the network itself: (n, 3, 64, 48) float32."""
    ordered = images[..., ::-1] if pixels.order == "bgr" else images
    centred = ordered.astype(np.float32) - np.array(pixels.mean, np.float32)
    return np.ascontiguousarray((centred / np.array(pixels.std, np.float32)).transpose(0, 3, 1, 2))


def expected(batch: Floats) -> dict[str, Floats]:
    """Two strided convolutions with a ReLU between them, a sigmoid, and the means of its maps."""
    first, second = _weights()
    maps = 1 / (1 + np.exp(-_strided(np.maximum(_strided(batch, first), 0), second)))
    return {HEATMAPS: maps, MEANS: maps.mean((2, 3))}


def save_ir(path: Path) -> Path:
    """Save the network as OpenVINO IR, with a dynamic batch dimension."""
    first, second = _weights()

    def conv(x: ov.Node, weights: Floats) -> ov.Node:
        return op.convolution(x, op.constant(weights), [2, 2], [1, 1], [1, 1], [1, 1])

    image = op.parameter([-1, 3, HEIGHT, WIDTH], ov.Type.f32, name=INPUT)
    maps = op.sigmoid(conv(op.relu(conv(image, first)), second))
    means = op.reduce_mean(maps, np.array([2, 3]), keep_dims=False)
    for node, name in ((image, INPUT), (maps, HEATMAPS), (means, MEANS)):
        node.output(0).set_names({name})
    ov.save_model(ov.Model([maps, means], [image], "tiny"), path, compress_to_fp16=False)
    return path


def save_onnx_graph(path: Path) -> Path:
    """Save the network as ONNX, with a dynamic batch dimension. Needs the package onnx."""
    from onnx import helper

    from tests.engines.build.onnx_graphs import save_onnx

    first, second = _weights()
    conv: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", [INPUT, "first"], ["hidden"], **conv),
        helper.make_node("Relu", ["hidden"], ["positive"]),
        helper.make_node("Conv", ["positive", "second"], ["logits"], **conv),
        helper.make_node("Sigmoid", ["logits"], [HEATMAPS]),
        helper.make_node("ReduceMean", [HEATMAPS], [MEANS], axes=[2, 3], keepdims=0),
    ]
    outputs = f"{HEATMAPS}: n, {KEYPOINTS}, {HEIGHT // 4}, {WIDTH // 4}; {MEANS}: n, {KEYPOINTS}"
    weights = {"first": first, "second": second}
    return save_onnx(path, nodes, weights, f"{INPUT}: n, 3, {HEIGHT}, {WIDTH}", outputs)


def _weights() -> tuple[Floats, Floats]:
    rng = np.random.default_rng(7)
    first, second = rng.normal(0, 0.3, (8, 3, 3, 3)), rng.normal(0, 0.2, (KEYPOINTS, 8, 3, 3))
    return first.astype(np.float32), second.astype(np.float32)


def _strided(x: Floats, weights: Floats) -> Floats:
    """A 3x3 convolution of stride 2 with zero padding."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    summed: Floats = np.einsum("nchwyx,kcyx->nkhw", windows[:, :, ::2, ::2], weights, optimize=True)
    return summed
