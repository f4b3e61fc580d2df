"""Small graphs that tests and benchmarks build, so that they need no published weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as op


def save_keypoint_graph(
    path: Path, *, height: int = 256, width: int = 192, keypoints: int = 17, channels: int = 8
) -> Path:
    """A small heatmap network as OpenVINO IR: (n, 3, height, width) to heatmaps (n, keypoints, height/4, width/4).

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


def save_detector_graph(path: Path, boxes: Sequence[tuple[float, float, float, float, float]]) -> Path:
    """A graph with RTMDet's signature that finds people in the same boxes of every image.

    boxes: x1, y1, x2, y2 in input pixels and the score.
    """
    image = op.parameter([1, 3, 320, 320], ov.Type.f32, name="input")
    nothing = op.multiply(op.reduce_mean(image, np.array([1, 2, 3]), keep_dims=False), op.constant(np.float32(0)))
    rows = np.array(boxes, np.float32)[None]
    dets = op.add(op.reshape(nothing, np.array([-1, 1, 1]), special_zero=False), op.constant(rows))
    zeros = op.add(op.reshape(nothing, np.array([-1, 1]), special_zero=False), op.constant(rows[..., 0] * 0))
    labels = op.convert(zeros, "i64")
    image.output(0).set_names({"input"})
    dets.output(0).set_names({"dets"})
    labels.output(0).set_names({"labels"})
    model = ov.Model([dets, labels], [image], "detector")
    model.reshape({image.output(0): ov.PartialShape([-1, 3, 320, 320])})
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def save_constant_graph(path: Path, outputs: Mapping[str, NDArray[Any]], width: int, height: int) -> Path:
    """A graph with the same `outputs` for every image (n, 3, height, width). An output's batch is free if it is 1."""
    image = op.parameter([1, 3, height, width], ov.Type.f32, name="input")
    image.output(0).set_names({"input"})
    results = []
    for name, values in outputs.items():
        batched = values.ndim > 0 and len(values) == 1
        mean = op.reduce_mean(image, np.array([1, 2, 3] if batched else [0, 1, 2, 3]), keep_dims=False)
        nothing = op.multiply(mean, op.constant(np.float32(0)))
        if batched:
            nothing = op.reshape(nothing, np.array([-1] + [1] * (values.ndim - 1)), special_zero=False)
        result = op.add(nothing, op.constant(values.astype(np.float32)))
        if values.dtype != np.float32:
            result = op.convert(result, "i64")
        result.output(0).set_names({name})
        results.append(result)
    model = ov.Model(results, [image], "constant")
    model.reshape({image.output(0): ov.PartialShape([-1, 3, height, width])})
    ov.save_model(model, path, compress_to_fp16=False)
    return path


def save_folding_graph(path: Path, *targets: Sequence[int]) -> Path:
    """A graph that reshapes (n, 4), doubled, to one target after the other; by default to (1, 4n)."""
    data = op.parameter([1, 4], ov.Type.f32, name="data")
    folded = op.multiply(data, op.constant(np.float32(2)))
    for target in targets or [(1, -1)]:
        folded = op.reshape(folded, op.constant(np.array(target)), special_zero=False)
    folded.output(0).set_names({"folded"})
    data.output(0).set_names({"data"})
    ov.save_model(ov.Model([folded], [data], "folding"), path, compress_to_fp16=False)
    return path


def tiny_catalogue(folder: Path) -> Path:
    """Write a catalogue to `folder` with the model `tiny`, the small network on the whole frame, and the model `pair`,
    the same network on the two people that a detector finds in every image.
    """
    save_keypoint_graph(folder / "tiny.xml")
    save_detector_graph(folder / "pair.xml", [(40, 40, 120, 220, 0.9), (180, 60, 260, 230, 0.8)])
    path = folder / "tiny.toml"
    path.write_text(_TINY, "utf-8")
    return path


_TINY = """
[models.pair-detector]
role = "detector"
family = "rtmdet"
source = { kind = "file", path = "." }
files = [{ path = "pair.xml" }, { path = "pair.bin" }]
input = { width = 320, height = 320, order = "bgr", pad = 114 }

[models.pair]
title = "a little network with random weights, behind a detector"
role = "estimator"
family = "heatmap"
skeleton = "coco-17"
detector = "pair-detector"
source = { kind = "file", path = "." }
files = [{ path = "tiny.xml" }, { path = "tiny.bin" }]
input = { width = 192, height = 256, mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375] }

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
