"""A detector that is cut before its suppression finds the same people, because its family suppresses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs onnx: pip install 'posewire[rtx]'")

import onnx
from onnx import helper

from engines.build.onnx.suppression import cut_suppression
from engines.families.rtmdet import RTMDet
from engines.ops.affine import crop
from engines.runtimes import PixelInput, open_runtime
from service.media.decode import ImageLimits, decode
from tests.engines.build.onnx_graphs import save_heatmap_onnx, save_onnx
from tests.shared import SHARED, needs_shared


def save_detector(path: Path) -> Path:
    """Three boxes with scores of two classes and suppression, followed by little, because the rest is cut off."""
    nodes = [
        helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["labels"]),
        helper.make_node("Cast", ["labels"], ["dets"], to=onnx.TensorProto.FLOAT),
    ]
    return save_onnx(path, nodes, {}, "boxes: n, 3, 4; scores: n, 2, 3", "dets: m, 3; labels: m, 3")


def test_only_the_suppression_is_cut_off(tmp_path: Path) -> None:
    model = onnx.load(save_detector(tmp_path / "detector.onnx"))
    cut = cut_suppression(model)
    assert [value.name for value in cut.graph.output] == ["dets", "labels"]
    assert "NonMaxSuppression" not in {node.op_type for node in cut.graph.node}
    onnx.save(cut, tmp_path / "cut.onnx")
    runtime = open_runtime(tmp_path / "cut.onnx", precision="fp32")
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]]], np.float32)
    scores = np.array([[[0.5, 0.9, 0.7], [0.99, 0.99, 0.99]]], np.float32)
    given = runtime.run({"boxes": boxes, "scores": scores})
    order = [1, 2, 0]
    np.testing.assert_allclose(given["dets"], np.concatenate([boxes, scores[:, 0, :, None]], axis=2)[:, order])
    np.testing.assert_array_equal(given["labels"], [[0, 0, 0]])


def test_other_graphs_are_unchanged(tmp_path: Path) -> None:
    model = onnx.load(save_heatmap_onnx(tmp_path / "net.onnx"))
    assert cut_suppression(model) is model


@needs_shared
def test_rtmdet_finds_the_same_people_in_real_images(tmp_path: Path) -> None:
    published = SHARED / "data/weights/rtmdet_nano.onnx"
    onnx.save(cut_suppression(onnx.load(published)), tmp_path / "cut.onnx")
    pixels = PixelInput(640, 640, "bgr", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395), pad=114)
    family = RTMDet(pixels, overlap=0.6)
    whole, cut = (open_runtime(path, precision="fp32", pixels=pixels) for path in (published, tmp_path / "cut.onnx"))
    assert cut.spec.outputs[0].shape == (1000, 5), "no output depends on the image"
    found = 0
    for path in sorted((SHARED / "data/coco").rglob("*.jpg"))[:4]:
        frame = decode(path.read_bytes(), ImageLimits(10**8, 10**8)).pixels
        [region] = family.regions(frame.shape[1], frame.shape[0])
        batch = np.empty((1, pixels.height, pixels.width, 3), np.uint8)
        crop(frame, region, pixels, batch[0])
        [expected] = family.decode(whole.run({"input": batch}), [region])
        [people] = family.decode(cut.run({"input": batch}), [region])
        np.testing.assert_allclose(people.boxes, expected.boxes, atol=1e-2)
        np.testing.assert_allclose(people.scores, expected.scores, atol=1e-4)
        found += len(people)
    assert found > 0
