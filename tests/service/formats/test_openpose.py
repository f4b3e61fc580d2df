"""OpenPose's JSON format."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import orjson
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17, OPENPOSE_25
from service.formats.openpose import openpose_document
from tests.service.formats.people import two_people


def written(poses: Poses) -> dict[str, object]:
    loaded: dict[str, object] = json.loads(orjson.dumps(openpose_document(poses), option=orjson.OPT_SERIALIZE_NUMPY))
    return loaded


def test_the_document_has_the_keys_of_openpose() -> None:
    document = written(two_people())
    assert document["version"] == 1.3
    assert isinstance(document["people"], list)
    assert len(document["people"]) == 2
    assert list(document["people"][0]) == [
        "person_id",
        "pose_keypoints_2d",
        "face_keypoints_2d",
        "hand_left_keypoints_2d",
        "hand_right_keypoints_2d",
        "pose_keypoints_3d",
        "face_keypoints_3d",
        "hand_left_keypoints_3d",
        "hand_right_keypoints_3d",
    ]


def test_keypoints_are_body_25() -> None:
    person = openpose_document(two_people())["people"]
    assert isinstance(person, list)
    keypoints = np.array(person[0]["pose_keypoints_2d"]).reshape(25, 3)

    assert keypoints[OPENPOSE_25.keypoints.index("right_wrist")].tolist() == pytest.approx([100.13, 50, 0.625])
    # Between the shoulders (keypoints 5 and 6 of COCO), with the lower of their scores.
    assert keypoints[OPENPOSE_25.keypoints.index("neck")].tolist() == pytest.approx([55.13, 27.5, 0.312])
    assert keypoints[OPENPOSE_25.keypoints.index("left_heel")].tolist() == [0, 0, 0]


def test_identities_are_person_ids() -> None:
    people = written(replace(two_people(), ids=np.array([7, 9])))["people"]
    assert isinstance(people, list)
    assert [person["person_id"] for person in people] == [[7], [9]]
    people = written(two_people())["people"]
    assert isinstance(people, list)
    assert [person["person_id"] for person in people] == [[-1], [-1]]


def test_a_frame_without_people_is_an_empty_list() -> None:
    assert written(Poses.empty(COCO_17)) == {"version": 1.3, "people": []}
