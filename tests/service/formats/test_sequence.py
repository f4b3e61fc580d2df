"""Missing fields of people in files are computed."""

from __future__ import annotations

import numpy as np

from engines.skeletons import COCO_17
from service.formats.sequence import SequencePerson, extent, gather


def person(sure: float, **known: object) -> SequencePerson:
    points = np.arange(34, dtype=np.float32).reshape(17, 2)
    return SequencePerson(points, np.full(17, sure, np.float32), **known)  # type: ignore[arg-type]


def test_given_fields_are_kept() -> None:
    poses = gather(COCO_17, [person(0.5, box=np.array([1, 2, 3, 4]), score=0.9, identity=7)])
    assert poses.boxes.tolist() == [[1, 2, 3, 4]]
    assert (poses.scores[0], poses.ids) == (np.float32(0.9), np.array([7]))


def test_missing_fields_are_computed_from_the_keypoints() -> None:
    half = person(0.5)
    half.keypoint_scores[8:] = 0
    poses = gather(COCO_17, [half, person(0.25, identity=7)])
    assert poses.boxes.tolist() == [[0, 1, 14, 15], [0, 1, 32, 33]]
    assert poses.scores.tolist() == [0.5, 0.25]
    assert poses.ids is not None
    assert poses.ids.tolist() == [-1, 7]


def test_no_people_have_no_ids() -> None:
    assert gather(COCO_17, []).ids is None
    assert gather(COCO_17, [person(0.5)]).ids is None


def test_a_person_without_keypoints_has_no_extent() -> None:
    assert extent(np.ones((1, 17, 2), np.float32), np.zeros((1, 17), np.float32)).tolist() == [[0, 0, 0, 0]]
    assert extent(np.ones((0, 17, 2), np.float32), np.zeros((0, 17), np.float32)).shape == (0, 4)
