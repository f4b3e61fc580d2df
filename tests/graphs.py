"""Small graphs that tests and benchmarks build, so that neither needs anybody's weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from openvino import opset13 as op


def save_keypoint_graph(
    path: Path, *, height: int = 256, width: int = 192, keypoints: int = 17, channels: int = 8
) -> Path:
    """A little heatmap network as OpenVINO IR: (n, 3, height, width) to heatmaps (n, keypoints, height/4, width/4).

    Two strided convolutions and a 1x1 with seeded random weights; the batch is free.
    """
    rng = np.random.default_rng(7)

    def conv(x: ov.Node, out: int, size: int, stride: int) -> ov.Node:
        weights = rng.normal(0, (2 / (x.shape[1] * size * size)) ** 0.5, (out, x.shape[1], size, size))
        pad = [size // 2] * 2
        return op.convolution(x, op.constant(weights.astype(np.float32)), [stride] * 2, pad, pad, [1, 1])

    image = op.parameter([1, 3, height, width], ov.Type.f32, name="image")
    hidden = op.relu(conv(op.relu(conv(image, channels, 3, 2)), 2 * channels, 3, 2))
    heatmaps = op.sigmoid(conv(hidden, keypoints, 1, 1))
    heatmaps.output(0).set_names({"heatmaps"})
    image.output(0).set_names({"image"})
    model = ov.Model([heatmaps], [image], "keypoints")
    model.reshape({image.output(0): ov.PartialShape([-1, 3, height, width])})
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def save_folding_graph(path: Path) -> Path:
    """A graph whose reshape has the batch of one baked in, as many exports have: (n, 4) to (1, 4n)."""
    data = op.parameter([1, 4], ov.Type.f32, name="data")
    folded = op.reshape(
        op.multiply(data, op.constant(np.float32(2))), op.constant(np.array([1, -1])), special_zero=False
    )
    folded.output(0).set_names({"folded"})
    data.output(0).set_names({"data"})
    ov.save_model(ov.Model([folded], [data], "folding"), path, compress_to_fp16=False)
    return path


def tiny_catalogue(folder: Path) -> Path:
    """A catalogue file in `folder` with the model `tiny`: the little network on the whole frame, no detector."""
    save_keypoint_graph(folder / "tiny.xml")
    path = folder / "tiny.toml"
    path.write_text(_TINY)
    return path


_TINY = """
[models.tiny]
title = "a little network with random weights"
role = "estimator"
family = "heatmap"
skeleton = "coco-17"
licence = "Apache-2.0"
commercial = true
source = { kind = "file", path = "." }
files = [{ path = "tiny.xml" }, { path = "tiny.bin" }]
input = { width = 192, height = 256, mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375] }
"""
