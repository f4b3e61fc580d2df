"""COCO's results format."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import orjson
from pycocotools.coco import COCO

from engines.poses import Poses
from engines.skeletons import COCO_17, POSETRACK_15
from service.formats.coco import coco_results
from tests.service.formats.people import two_people


def written(poses: Poses) -> list[dict[str, object]]:
    data = orjson.dumps(coco_results(poses, image_id=42), option=orjson.OPT_SERIALIZE_NUMPY)
    loaded: list[dict[str, object]] = json.loads(data)
    return loaded


def test_a_person_is_one_entry() -> None:
    first, second = written(two_people())
    keypoints = first.pop("keypoints")

    assert first == {"image_id": 42, "category_id": 1, "score": 0.988, "bbox": [0.13, 0.0, 160.0, 80.0]}
    assert isinstance(keypoints, list)
    assert keypoints[:9] == [0.13, 0.0, 0.0, 10.13, 5.0, 1.0, 20.13, 10.0, 1.0]  # the first keypoint's score is 0
    assert len(keypoints) == 51
    assert second["bbox"] == [100.13, 0.0, 160.0, 80.0]


def test_keypoints_are_in_cocos_order_and_missing_ones_are_zero() -> None:
    points = np.arange(30, dtype=np.float32).reshape(1, 15, 2)
    boxes = np.zeros((1, 4), np.float32)
    poses = Poses(points, np.ones((1, 15), np.float32), boxes, np.ones(1, np.float32), POSETRACK_15)
    keypoints = np.array(written(poses)[0]["keypoints"]).reshape(17, 3)

    nose, left_eye, left_shoulder = (COCO_17.keypoints.index(n) for n in ("nose", "left_eye", "left_shoulder"))
    theirs = POSETRACK_15.keypoints.index("left_shoulder")
    assert keypoints[nose].tolist() == [26, 27, 1]
    assert keypoints[left_eye].tolist() == [0, 0, 0]
    assert keypoints[left_shoulder].tolist() == [2 * theirs, 2 * theirs + 1, 1]


def test_pycocotools_reads_it() -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO()
        annotations.dataset = {"images": [{"id": 42}], "annotations": [], "categories": [{"id": 1}]}
        annotations.createIndex()
        loaded = annotations.loadRes(written(two_people()))

    assert [a["score"] for a in loaded.loadAnns(loaded.getAnnIds())] == [0.988, 0.5]


def test_no_people_are_an_empty_list() -> None:
    assert coco_results(Poses.empty(POSETRACK_15), image_id=1) == []
