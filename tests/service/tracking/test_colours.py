"""Colours distinguish people whose clothes are visible."""

from __future__ import annotations

import numpy as np

from service.tracking.colours import differences, learn, sample
from service.tracking.similarity import Observed
from tests.service.tracking.people import people

FRAME = np.zeros((200, 400, 3), np.uint8)
FRAME[:, :200] = (200, 40, 40)
FRAME[:, 200:] = (40, 40, 200)
HERE = np.array([0])


def observed(*middles: tuple[float, float], keypoint_score: float = 0.9) -> Observed:
    poses = people(middles, keypoint_score=keypoint_score)
    return Observed.of(poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, 0.2)


def test_the_same_colours_are_likely_and_others_unlikely() -> None:
    seen = observed((100, 100), (300, 100))
    appearance = sample(FRAME, seen.points, seen.boxes, seen.areas)
    np.testing.assert_allclose(
        appearance.rgb[0][appearance.known[0]], np.broadcast_to(np.array((200, 40, 40)) / 255, (17, 3)), atol=0.01
    )
    colours = np.zeros((1, 17, 4), np.float32)
    learn(colours, HERE, appearance, HERE, np.zeros(1, np.float32))
    tint, contrast, worth = differences(colours, appearance, np.array([0, 0]), np.array([0, 1]))
    assert tint[0] < 0.2 < 1.5 < tint[1]
    assert contrast[0] < 0.2 < 1.5 < contrast[1]
    assert worth.tolist() == [1, 1]


def test_brighter_light_changes_the_contrast_less_than_the_tint() -> None:
    seen = observed((100, 100))
    colours = np.zeros((1, 17, 4), np.float32)
    learn(colours, HERE, sample(FRAME, seen.points, seen.boxes, seen.areas), HERE, np.zeros(1, np.float32))
    dim = sample((FRAME * 0.6).astype(np.uint8), seen.points, seen.boxes, seen.areas)
    tint, contrast, _ = differences(colours, dim, HERE, HERE)
    assert contrast < 0.5 * tint


def test_occluded_and_crowded_people_have_no_colours() -> None:
    for seen in (observed((100, 100), keypoint_score=0.3), observed((100, 100), (101, 100))):
        appearance = sample(FRAME, seen.points, seen.boxes, seen.areas)
        colours = np.ones((1, 17, 4), np.float32)
        assert differences(colours, appearance, HERE, HERE)[2] == 0


def test_one_observation_changes_little() -> None:
    seen = observed((100, 100), (300, 100))
    appearance = sample(FRAME, seen.points, seen.boxes, seen.areas)
    colours = np.zeros((1, 17, 4), np.float32)
    learn(colours, HERE, appearance, np.array([0]), np.zeros(1, np.float32))
    learn(colours, HERE, appearance, np.array([1]), np.full(1, 0.05, np.float32))
    assert differences(colours, appearance, HERE, np.array([0]))[0] < 0.5
    learn(colours, HERE, appearance, np.array([1]), np.full(1, 10, np.float32))
    assert differences(colours, appearance, HERE, np.array([1]))[0] < 0.2


def test_people_beyond_the_frame_are_no_error() -> None:
    seen = observed((-20, 100), (405, 210))
    assert sample(FRAME, seen.points, seen.boxes, seen.areas).rgb.shape == (2, 17, 3)
