"""Clothes tell people apart where they can be seen."""

from __future__ import annotations

import numpy as np

from service.tracking.colours import alike, learn, look
from service.tracking.similarity import Observed
from tests.service.tracking.people import people

FRAME = np.zeros((200, 400, 3), np.uint8)
FRAME[:, :200] = (200, 40, 40)
FRAME[:, 200:] = (40, 40, 200)
HERE = np.array([0])


def observed(*middles: tuple[float, float], keypoint_score: float = 0.9) -> Observed:
    poses = people(middles, keypoint_score=keypoint_score)
    return Observed.of(poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, 0.2)


def test_the_same_clothes_speak_for_and_others_against() -> None:
    seen = observed((100, 100), (300, 100))
    worn = look(FRAME, seen.points, seen.boxes, seen.areas)
    np.testing.assert_allclose(
        worn.rgb[0][worn.known[0]], np.broadcast_to(np.array((200, 40, 40)) / 255, (17, 3)), atol=0.01
    )
    colours = np.zeros((1, 17, 4), np.float32)
    learn(colours, HERE, worn, HERE, np.zeros(1, np.float32))
    red, blue = alike(colours, worn, np.array([0, 0]), np.array([0, 1]))
    assert red > 0.85
    assert blue < 0.15


def test_what_is_hidden_or_in_a_crowd_says_nothing() -> None:
    for seen in (observed((100, 100), keypoint_score=0.3), observed((100, 100), (101, 100))):
        worn = look(FRAME, seen.points, seen.boxes, seen.areas)
        colours = np.ones((1, 17, 4), np.float32)
        assert alike(colours, worn, HERE, HERE) == 0.5


def test_one_look_changes_little() -> None:
    seen = observed((100, 100), (300, 100))
    worn = look(FRAME, seen.points, seen.boxes, seen.areas)
    colours = np.zeros((1, 17, 4), np.float32)
    learn(colours, HERE, worn, np.array([0]), np.zeros(1, np.float32))
    learn(colours, HERE, worn, np.array([1]), np.full(1, 0.05, np.float32))
    assert alike(colours, worn, HERE, np.array([0])) > 0.85
    learn(colours, HERE, worn, np.array([1]), np.full(1, 10, np.float32))
    assert alike(colours, worn, HERE, np.array([1])) > 0.85


def test_people_at_the_edge_of_the_frame_do_no_harm() -> None:
    seen = observed((-20, 100), (405, 210))
    assert look(FRAME, seen.points, seen.boxes, seen.areas).rgb.shape == (2, 17, 3)
