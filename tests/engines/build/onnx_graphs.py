"""Small ONNX graphs for the tests of plans, like those of `tests.graphs` for OpenVINO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


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


def _value(text: str) -> onnx.ValueInfoProto:
    name, _, sides = text.partition(":")
    shape = [int(side) if side.strip().isdigit() else side.strip() for side in sides.split(",")]
    return helper.make_tensor_value_info(name.strip(), TensorProto.FLOAT, shape)
