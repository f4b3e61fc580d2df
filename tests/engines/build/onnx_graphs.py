"""Small ONNX graphs for the tests of plans, like those of `tests.graphs` for OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graphs import tiny_catalogue


def save_onnx(
    path: Path, nodes: Sequence[onnx.NodeProto], constants: dict[str, np.ndarray], inputs: str, outputs: str
) -> Path:
    """`inputs` and `outputs`: "name: side, side, ..." separated by semicolons; sides that are not numbers are free."""
    graph = helper.make_graph(
        list(nodes),
        "little",
        [_value(text) for text in inputs.split(";")],
        [_value(text) for text in outputs.split(";")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def save_heatmap_onnx(path: Path, *, sides: str = "n, 3, 64, 48", channels_last: bool = False) -> Path:
    """A small heatmap network with seeded weights: image to `heatmaps` at a quarter of its size, and their `means`."""
    rng = np.random.default_rng(7)
    nodes = [
        helper.make_node("Conv", ["first", "w1"], ["c1"], strides=[2, 2], pads=[1] * 4, name="conv1"),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], strides=[2, 2], pads=[1] * 4, name="conv2"),
        helper.make_node("Sigmoid", ["c2"], ["heatmaps"], name="sigmoid"),
        helper.make_node("ReduceMean", ["heatmaps"], ["means"], axes=[2, 3], keepdims=0, name="mean"),
    ]
    if channels_last:
        nodes.insert(0, helper.make_node("Transpose", ["image"], ["first"], perm=[0, 3, 1, 2], name="turn"))
    else:
        nodes[0].input[0] = "image"
    weights = {
        "w1": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 0.2, (17, 8, 3, 3)).astype(np.float32),
    }
    return save_onnx(path, nodes, weights, f"image: {sides}", "heatmaps: n, 17, h, w; means: n, 17")


def save_detector_onnx(path: Path, boxes: Sequence[tuple[float, float, float, float, float]]) -> Path:
    """`tests.graphs.save_detector_graph` as ONNX: the same boxes, x1, y1, x2, y2 and score, in every image."""
    rows = np.array(boxes, np.float32)[None]
    constants: dict[str, np.ndarray] = {
        "zero": np.array(0, np.float32),
        "rows": rows,
        "people": rows[..., 0] * 0,
        "three": np.array([-1, 1, 1], np.int64),
        "two": np.array([-1, 1], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "three"], ["flat"]),
        helper.make_node("Add", ["flat", "rows"], ["dets"]),
        helper.make_node("Reshape", ["nothing", "two"], ["row"]),
        helper.make_node("Add", ["row", "people"], ["zeros"]),
        helper.make_node("Cast", ["zeros"], ["labels"], to=TensorProto.INT64),
    ]
    save_onnx(path, nodes, constants, "input: n, 3, 320, 320", "dets: n, k, 5; labels: n, k")
    model = onnx.load(path)
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, path)
    return path


def tiny_onnx_catalogue(folder: Path) -> Path:
    """`tests.graphs.tiny_catalogue` with ONNX graphs: the models `tiny` and `pair`."""
    save_heatmap_onnx(folder / "tiny.onnx", sides="n, 3, 256, 192")
    save_detector_onnx(folder / "pair.onnx", [(40, 40, 120, 220, 0.9), (180, 60, 260, 230, 0.8)])
    path = tiny_catalogue(folder)
    text = path.read_text("utf-8")
    for name in ("tiny", "pair"):
        text = text.replace(f'{{ path = "{name}.xml" }}, {{ path = "{name}.bin" }}', f'{{ path = "{name}.onnx" }}')
    text = text.replace('family = "heatmap"\n', 'family = "heatmap"\noptions = { output = "heatmaps" }\n')
    path.write_text(text, "utf-8")
    return path


def _value(text: str) -> onnx.ValueInfoProto:
    name, _, sides = text.partition(":")
    shape = [int(side) if side.strip().isdigit() else side.strip() for side in sides.split(",")]
    return helper.make_tensor_value_info(name.strip(), TensorProto.FLOAT, shape)


def save_sized_onnx(path: Path, points: np.ndarray) -> Path:
    """A graph with DETRPose's signature: `images` and `orig_target_sizes`, to whose width and height it scales the
    (k, K, 2) `points`, which are in 0..1; each row has the score 0.9 and the label 1, whatever the image shows.
    """
    count = len(points)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "two"], ["rows"]),
        helper.make_node("Add", ["rows", "nines"], ["scores"]),
        helper.make_node("Add", ["rows", "ones"], ["label"]),
        helper.make_node("Cast", ["label"], ["labels"], to=TensorProto.INT64),
        helper.make_node("Cast", ["orig_target_sizes"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["size", "four"], ["factors"]),
        helper.make_node("Mul", ["points", "factors"], ["placed"]),
        helper.make_node("Reshape", ["nothing", "ends"], ["cells"]),
        helper.make_node("Add", ["placed", "cells"], ["keypoints"]),
    ]
    constants: dict[str, np.ndarray] = {
        "zero": np.array(0, np.float32),
        "two": np.array([-1, 1], np.int64),
        "four": np.array([-1, 1, 1, 2], np.int64),
        "ends": np.array([-1, 1, 1, 1], np.int64),
        "nines": np.full((1, count), 0.9, np.float32),
        "ones": np.ones((1, count), np.float32),
        "points": points[None].astype(np.float32),
    }
    inputs = "images: n, 3, 64, 96; orig_target_sizes: n, 2"
    outputs = f"scores: n, {count}; labels: n, {count}; keypoints: n, {count}, {points.shape[1]}, 2"
    model = onnx.load(save_onnx(path, nodes, constants, inputs, outputs))
    model.graph.input[1].type.tensor_type.elem_type = TensorProto.INT64
    model.graph.output[1].type.tensor_type.elem_type = TensorProto.INT64
    onnx.save(model, path)
    return path


def save_constant_onnx(path: Path, outputs: Mapping[str, np.ndarray], width: int, height: int) -> Path:
    """`tests.graphs.save_constant_graph` as ONNX: the same `outputs`, with a batch of 1, for every image."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants: dict[str, np.ndarray] = {"zero": np.array(0, np.float32)}
    for name, values in outputs.items():
        constants |= {
            f"{name}/values": values.astype(np.float32),
            f"{name}/shape": np.array([-1] + [1] * (values.ndim - 1)),
        }
        nodes += [
            helper.make_node("Reshape", ["nothing", f"{name}/shape"], [f"{name}/nothing"]),
            helper.make_node("Add", [f"{name}/nothing", f"{name}/values"], [f"{name}/sum"]),
            helper.make_node("Cast", [f"{name}/sum"], [name], to=helper.np_dtype_to_tensor_dtype(values.dtype)),
        ]
    given = "; ".join(f"{name}: n, {', '.join(map(str, values.shape[1:]))}" for name, values in outputs.items())
    model = onnx.load(save_onnx(path, nodes, constants, f"input: n, 3, {height}, {width}", given))
    for port, values in zip(model.graph.output, outputs.values(), strict=True):
        port.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    onnx.save(model, path)
    return path
