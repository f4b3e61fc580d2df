"""The detections family: boxes, scores, labels and keypoints under any names and in the usual forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.families.detections import BoxDetector, KeypointDetector
from engines.inputs import PixelInput
from engines.skeletons import COCO_17
from tests.drawn import Outputs, keypoint_rcnn
from tests.people import standing

PIXELS = PixelInput(240, 320)
BOXES = np.array([(10, 20, 50, 120), (100, 30, 160, 180), (200, 20, 240, 60)], np.float32)
SCORES = np.array([0.6, 0.9, 0.8], np.float32)
LABELS = np.array([1, 1, 18])

TORCHVISION: Outputs = {"boxes": BOXES, "scores": SCORES, "labels": LABELS}
TENSORFLOW: Outputs = {
    "detection_boxes": BOXES[None, :, [1, 0, 3, 2]] / np.array([240, 320, 240, 320], np.float32),
    "detection_scores": SCORES[None],
    "detection_classes": LABELS[None].astype(np.float32),
}
MMDEPLOY: Outputs = {"dets": np.column_stack([BOXES, SCORES])[None], "labels": np.array([[0, 0, 17]])}
DETR: Outputs = {
    "pred": np.concatenate([(BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]], axis=1)[None],
    "conf": SCORES[None],
    "cls": LABELS[None],
}
FORMS: list[tuple[Outputs, dict[str, Any]]] = [
    (TORCHVISION, {}),
    (
        TENSORFLOW,
        {
            "boxes": "detection_boxes",
            "scores": "detection_scores",
            "labels": "detection_classes",
            "form": "yxyx",
            "relative": True,
        },
    ),
    (MMDEPLOY, {"boxes": "dets", "scores": None, "person": 0}),
    (DETR, {"boxes": "pred", "scores": "conf", "labels": "cls", "form": "cxcywh"}),
]


@pytest.mark.parametrize(("outputs", "options"), FORMS, ids=["torchvision", "tensorflow", "mmdeploy", "detr"])
def test_every_box_form_gives_the_same_people(outputs: Outputs, options: dict[str, Any]) -> None:
    family = BoxDetector(PIXELS, **options)
    assert set(family.outputs) == set(outputs)
    [people] = family.decode(outputs, family.regions(640, 480))
    np.testing.assert_allclose(people.boxes, 2 * BOXES[[1, 0]], atol=1e-3)
    np.testing.assert_allclose(people.scores, [0.9, 0.6])
    assert family.merge([people], family.regions(640, 480)) is people


def test_a_graph_without_labels_finds_people_only() -> None:
    family = BoxDetector(PIXELS, labels=None)
    [people] = family.decode(TORCHVISION, family.regions(320, 240))
    assert len(people) == 3


def test_keypoint_rcnn_gives_the_poses_of_all_people() -> None:
    left, right = standing(80, 120, 180), standing(230, 130, 160)
    family = KeypointDetector(PIXELS, COCO_17)
    [poses] = family.decode(keypoint_rcnn(left, right), [family.region(640, 480)])
    np.testing.assert_allclose(poses.keypoints, [2 * left, 2 * right], atol=1e-3)
    np.testing.assert_allclose(poses.keypoint_scores, 0.9, atol=1e-2)
    np.testing.assert_allclose(poses.scores, 0.9)


def test_keypoints_can_contain_their_scores() -> None:
    outputs = keypoint_rcnn(standing(80, 120, 180))
    outputs["keypoints"][..., 2] = 0.7
    family = KeypointDetector(PIXELS, COCO_17, keypoint_scores=None, logits=False)
    assert "keypoints_scores" not in family.outputs
    [poses] = family.decode(outputs, [family.region(320, 240)])
    np.testing.assert_allclose(poses.keypoint_scores, 0.7, atol=1e-6)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30])
@pytest.mark.parametrize("where", ["boxes", "scores", "keypoints", "all"])
def test_garbage_is_dropped(garbage: float, where: str) -> None:
    outputs = keypoint_rcnn(standing(80, 120, 180))
    for name in ["boxes", "scores", "keypoints", "keypoints_scores"] if where == "all" or not garbage else [where]:
        outputs[name] = np.full_like(outputs[name], garbage)
    family = KeypointDetector(PIXELS, COCO_17)
    [poses] = family.decode(outputs, [family.region(320, 240)])
    detector = BoxDetector(PIXELS)
    [people] = detector.decode(outputs, detector.regions(320, 240))
    assert len(poses) == 0
    assert len(people) == (where == "keypoints" and garbage != 0)


def test_an_image_without_boxes_gives_no_people() -> None:
    nothing = {name: values[:0] for name, values in keypoint_rcnn().items()}
    family = KeypointDetector(PIXELS, COCO_17)
    [poses] = family.decode(nothing, [family.region(320, 240)])
    assert len(poses) == 0


def test_outputs_of_other_shapes_are_refused_with_a_message() -> None:
    with pytest.raises(ValueError, match="form 'xywh' is not one of xyxy, yxyx, cxcywh"):
        BoxDetector(PIXELS, form="xywh")
    family = BoxDetector(PIXELS)
    with pytest.raises(ValueError, match=r"an output is \(3, 4\) for 2 images; 3 dimensions are expected"):
        family.decode(TORCHVISION, family.regions(320, 240) * 2)
