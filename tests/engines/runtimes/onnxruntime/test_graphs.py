"""Preprocessing folded into an ONNX graph gives the same outputs as in the OpenVINO runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[onnxruntime]'")

import onnx
from onnx import TensorProto, helper

from engines.runtimes import PixelInput, open_runtime
from engines.runtimes.onnxruntime.graphs import prepare
from tests.engines.build.onnx_graphs import save_heatmap_onnx, save_onnx, save_sized_onnx
from tests.shared import SHARED, needs_shared

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def crops(n: int, pixels: PixelInput) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (n, pixels.height, pixels.width, 3)).astype(np.uint8)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("sides", "channels_last"),
    [("n, 3, 64, 48", False), ("1, 3, 64, 48", False), ("n, 3, h, w", False), ("n, 64, 48, 3", True)],
    ids=["free batch", "batch of one", "any size", "channels last"],
)
def test_a_folded_graph_gives_the_same_outputs_as_openvino(
    tmp_path: Path, order: str, sides: str, channels_last: bool
) -> None:
    graph = save_heatmap_onnx(tmp_path / "net.onnx", sides=sides, channels_last=channels_last)
    pixels = PixelInput(64, 48, "bgr" if order == "bgr" else "rgb", MEAN, STD)
    onnx.save(prepare(onnx.load(graph), pixels), tmp_path / "folded.onnx")

    itself = open_runtime(graph, precision="fp32", pixels=pixels)
    folded = open_runtime(tmp_path / "folded.onnx", precision="fp32")
    assert folded.spec == itself.spec
    feeds = {"image": crops(3, pixels)}
    expected, given = itself.run(feeds), folded.run(feeds)
    assert list(given) == list(expected) == ["heatmaps", "means"]
    for name, array in expected.items():
        np.testing.assert_allclose(given[name], array, atol=1e-5)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_results_of_a_graph_that_takes_a_size_are_in_input_pixels(tmp_path: Path, backend: str) -> None:
    points = np.random.default_rng(0).uniform(0, 1, (4, 17, 2)).astype(np.float32)
    graph = save_sized_onnx(tmp_path / "sized.onnx", points)
    pixels = PixelInput(64, 96)
    runtime = open_runtime(graph, backend, precision="fp32", pixels=pixels, outputs=("scores", "labels", "keypoints"))
    assert [port.name for port in runtime.spec.inputs] == ["images"]
    given = runtime.run({"images": crops(2, pixels)})
    np.testing.assert_allclose(given["keypoints"], np.stack([points * (96, 64)] * 2), rtol=1e-5)
    np.testing.assert_allclose(given["scores"], 0.9, rtol=1e-6)


def test_unused_outputs_are_removed_with_their_nodes(tmp_path: Path) -> None:
    graph = onnx.load(save_heatmap_onnx(tmp_path / "net.onnx"))
    kept = prepare(graph, outputs=["heatmaps"])
    assert [value.name for value in kept.graph.output] == ["heatmaps"]
    assert "mean" not in [node.name for node in kept.graph.node]
    assert len(graph.graph.output) == 2, "the original graph is unchanged"
    onnx.checker.check_model(kept, full_check=True)

    with pytest.raises(ValueError, match="has no output poses; it has heatmaps, means"):
        prepare(graph, outputs=["poses"])


def test_pixels_are_refused_for_inputs_that_are_not_images(tmp_path: Path) -> None:
    add = [helper.make_node("Add", ["a", "b"], ["c"])]
    two = onnx.load(save_onnx(tmp_path / "two.onnx", add, {}, "a: n, 3, 4, 4; b: n, 3, 4, 4", "c: n, 3, 4, 4"))
    with pytest.raises(ValueError, match="this has 2: a, b"):
        prepare(two, PixelInput(4, 4))

    relu = [helper.make_node("Relu", ["a"], ["c"])]
    row = onnx.load(save_onnx(tmp_path / "row.onnx", relu, {}, "a: n, 5", "c: n, 5"))
    with pytest.raises(ValueError, match="a is not an image with three channels"):
        prepare(row, PixelInput(4, 4))


def test_pixels_are_normalised_in_fp32_for_a_half_precision_network(tmp_path: Path) -> None:
    double = [helper.make_node("Add", ["image", "image"], ["twice"])]
    model = onnx.load(save_onnx(tmp_path / "half.onnx", double, {}, "image: n, 3, 4, 4", "twice: n, 3, 4, 4"))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(prepare(model, PixelInput(4, 4, "rgb", MEAN, STD)), tmp_path / "folded.onnx")
    runtime = open_runtime(tmp_path / "folded.onnx", precision="fp32")
    batch = crops(1, PixelInput(4, 4))
    expected = 2 * ((batch - np.array(MEAN, np.float32)) / np.array(STD, np.float32)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(runtime.run({"image": batch})["twice"], expected, rtol=2e-3, atol=2e-3)


def test_a_branch_inside_the_graph_gets_the_normalised_image(tmp_path: Path) -> None:
    def branch(name: str, operator: str) -> onnx.GraphProto:
        result = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(operator, ["image"], [name])], name, [], [result])

    nodes = [
        helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "limit"], ["bright"]),
        helper.make_node(
            "If", ["bright"], ["out"], then_branch=branch("same", "Identity"), else_branch=branch("minus", "Neg")
        ),
    ]
    limit = {"limit": np.array(1.0, np.float32)}
    model = onnx.load(save_onnx(tmp_path / "if.onnx", nodes, limit, "image: n, 3, 4, 4", "out: n, 3, 4, 4"))
    onnx.save(prepare(model, PixelInput(4, 4, std=(255, 255, 255)), ["out"]), tmp_path / "folded.onnx")
    batch = crops(1, PixelInput(4, 4))
    given = open_runtime(tmp_path / "folded.onnx", precision="fp32").run({"image": batch})["out"]
    np.testing.assert_allclose(given, -(batch / np.float32(255)).transpose(0, 3, 1, 2), atol=1e-6)


@needs_shared
def test_published_graphs_including_old_ones_and_ones_with_suppression(tmp_path: Path) -> None:
    weights = SHARED / "data/weights"
    rtmdet = PixelInput(320, 320, "bgr", MEAN[::-1], STD[::-1], pad=114)
    simplepose = PixelInput(256, 192, "rgb", MEAN, STD)
    for name, pixels in {"rtmdet_nano.onnx": rtmdet, "simplepose_mobilenetv2_256x192.onnx": simplepose}.items():
        onnx.save(prepare(onnx.load(weights / name), pixels), tmp_path / name)
        itself = open_runtime(weights / name, precision="fp32", max_batch=2, pixels=pixels)
        folded = open_runtime(tmp_path / name, precision="fp32", max_batch=2)
        assert folded.spec == itself.spec
        feeds = {itself.spec.inputs[0].name: crops(1, pixels)}
        expected, given = itself.run(feeds), folded.run(feeds)
        for output, array in expected.items():
            np.testing.assert_allclose(given[output], array, rtol=1e-3, atol=1e-3, err_msg=f"{name}: {output}")
