"""A small ONNX network with interchangeable layers in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]


def save_network(
    path: Path,
    middle: Sequence[NodeProto] = (),
    tail: Sequence[NodeProto] = (),
    constants: dict[str, Floats] | None = None,
    *,
    opset: int = 17,
) -> Path:
    """From images (n, 3, 32, 24) in 0..255 to maps: subtract 120, convolution, ReLU, `middle`, convolution, `tail`.

    middle: nodes from "a" to "b". tail: nodes from "c" to "maps". Both default to identities.
    """
    rng = np.random.default_rng(5)
    weights = {
        "mean": np.float32(120.25).reshape(1),
        "first": rng.normal(0, 0.01, (8, 3, 3, 3)).astype(np.float32),
        "second": rng.normal(0, 0.1, (5, 8, 3, 3)).astype(np.float32),
        **(constants or {}),
    }
    nodes = [
        helper.make_node("Sub", ["images", "mean"], ["centred"], name="normalise"),
        helper.make_node("Conv", ["centred", "first"], ["hidden"], name="conv1", pads=[1] * 4),
        helper.make_node("Relu", ["hidden"], ["a"], name="relu"),
        *(middle or [helper.make_node("Identity", ["a"], ["b"])]),
        helper.make_node("Conv", ["b", "second"], ["c"], name="conv2", pads=[1] * 4),
        *(tail or [helper.make_node("Identity", ["c"], ["maps"])]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 32, 24])],
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["n", len(weights["second"]), 32, 24])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def spot_finder() -> dict[str, Floats]:
    """Weights with which the network blurs red, green and blue and finds COCO's keypoints in these colours in turn.

    Its heatmaps have a peak of about 0.9 at the centre of each of `spots`.
    """
    blur = np.outer([1, 2, 1], [1, 2, 1]) / 16
    colours, keypoints = np.arange(8) % 3, np.arange(17) % 3
    first = (colours[:, None] == np.arange(3))[:, :, None, None] * blur / 135
    second = (keypoints[:, None] == np.arange(8))[:, :, None, None] * blur * 1.5
    return {"first": first.astype(np.float32), "second": second.astype(np.float32)}


def spots(count: int = 4) -> Floats:
    """Images with a red, a green and a blue spot at random positions."""
    rng = np.random.default_rng(11)
    ys, xs = np.mgrid[:32, :24]
    places = rng.uniform(4, 20, (count, 3, 2))[..., None, None]
    bumps: Floats = np.exp(-(np.square(xs - places[:, :, 0]) + np.square(ys - places[:, :, 1])) / 6)
    return (120 + 135 * bumps).astype(np.float32)


Middle = tuple[list[NodeProto], dict[str, Floats]]


def there_and_back(there: str, back: str, amount: float) -> Middle:
    """A middle that is an identity except for rounding.

    ("Mul", "Div", 1e5) overflows in fp16; ("Add", "Sub", 4096) needs more digits than fp16 and bf16 have.
    """
    nodes = [
        helper.make_node(there, ["a", "amount"], ["away"], name="there"),
        helper.make_node("Relu", ["away"], ["still_away"], name="between"),
        helper.make_node(back, ["still_away", "amount"], ["b"], name="back"),
    ]
    return nodes, {"amount": np.full(1, amount, np.float32)}


def images(count: int = 2) -> Floats:
    """Random images."""
    return np.random.default_rng(3).uniform(0, 255, (count, 3, 32, 24)).astype(np.float32)
