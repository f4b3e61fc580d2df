"""People in Posewire's own JSON format."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import orjson

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.formats.people import people_list
from tests.service.formats.people import two_people


def written(poses: Poses) -> bytes:
    return orjson.dumps(people_list(poses), option=orjson.OPT_SERIALIZE_NUMPY)


def test_a_person_has_a_score_a_box_and_keypoints() -> None:
    first, second = json.loads(written(two_people()))

    assert list(first) == ["score", "box", "keypoints"]
    assert first["score"] == 0.988
    assert first["box"] == [0.13, 0.0, 160.13, 80.0]
    assert first["keypoints"][:3] == [[0.13, 0.0, 0.0], [10.13, 5.0, 0.062], [20.13, 10.0, 0.125]]
    assert len(first["keypoints"]) == 17
    assert second["keypoints"][16] == [260.13, 80.0, 0.5]


def test_numbers_are_rounded() -> None:
    assert b'"box":[0.13,0.0,160.13,80.0]' in written(two_people())


def test_ids_and_3d_keypoints_are_written_if_there_are_any() -> None:
    metres = np.full((2, 17, 3), 0.12345, np.float32)
    poses = replace(two_people(), ids=np.array([7, 2**40]), keypoints_3d=metres)
    first, second = json.loads(written(poses))

    assert first["keypoints_3d"][0] == [0.123, 0.123, 0.123]
    assert (first["id"], second["id"]) == (7, 2**40)


def test_no_people_are_an_empty_list() -> None:
    assert written(Poses.empty(COCO_17)) == b"[]"


def test_values_that_are_not_finite_are_null() -> None:
    poses = two_people()
    poses.keypoints[0, 0] = np.nan
    assert json.loads(written(poses))[0]["keypoints"][0] == [None, None, 0.0]
