"""Colours distinguish people whose clothes are visible."""

from __future__ import annotations

import numpy as np

from engines.poses import Floats
from engines.skeletons import COCO_17
from service.tracking.colours import Appearance, differences, learn, pooled, sample, sides
from service.tracking.similarity import Indices, Observed
from tests.service.tracking.people import people

FRAME = np.zeros((200, 400, 3), np.uint8)
FRAME[:, :200] = (200, 40, 40)
FRAME[:, 200:] = (40, 40, 200)
HERE = np.array([0])


def learn_at(
    colours: Floats, appearance: Appearance, chosen: Indices, *, elapsed: float = 0.0, age: float = 9.0
) -> None:
    learn(colours, HERE, appearance, chosen, np.full(1, elapsed), np.full(1, age), np.zeros(1, np.bool_))


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
    learn_at(colours, appearance, HERE)
    tint, contrast, worth = differences(colours, appearance, np.array([0, 0]), np.array([0, 1]))
    assert tint[0] < 0.2 < 1.5 < tint[1]
    assert contrast[0] < 0.2 < 1.5 < contrast[1]
    assert worth.tolist() == [1, 1]


def test_brighter_light_changes_the_contrast_less_than_the_tint() -> None:
    seen = observed((100, 100))
    colours = np.zeros((1, 17, 4), np.float32)
    learn_at(colours, sample(FRAME, seen.points, seen.boxes, seen.areas), HERE)
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
    learn_at(colours, appearance, HERE)
    learn_at(colours, appearance, np.array([1]), elapsed=0.05)
    assert differences(colours, appearance, HERE, np.array([0]))[0] < 0.5
    learn_at(colours, appearance, np.array([1]), elapsed=10)
    assert differences(colours, appearance, HERE, np.array([1]))[0] < 0.2


def test_a_mean_of_the_first_looks_weighs_them_alike() -> None:
    colours = np.zeros((1, 2, 4), np.float32)
    known = np.ones((1, 2), np.bool_)
    for n, grey in enumerate((0.2, 0.5, 0.8)):
        learn_at(
            colours, Appearance(np.full((1, 2, 3), grey, np.float32), known), HERE, elapsed=0.01, age=0.01 * (n - 1)
        )
    np.testing.assert_allclose(colours[0, 0], [0.5, 0.5, 0.5, 1], atol=1e-3)


def test_newcomers_are_learned_from_any_part_of_them_but_people_with_an_id_only_as_a_whole() -> None:
    part = Appearance(np.full((1, 4, 3), 0.8, np.float32), np.array([[True, False, False, False]]))
    for new in (False, True):
        colours = np.full((1, 4, 4), [0.2, 0.2, 0.2, 1], np.float32)
        learn(colours, HERE, part, HERE, np.full(1, 9.0), np.full(1, 9.0), np.array([new]))
        assert (colours[0, 0, 0] > 0.7) == new
        assert colours[0, 1, 0] == np.float32(0.2)


def test_who_turns_around_has_the_same_pooled_colours() -> None:
    pairs = sides(COCO_17)
    assert sorted(pairs.ravel().tolist()) == [0, 0, *range(1, 17)]
    colours = np.random.default_rng(0).random((2, 17, 4)).astype(np.float32)
    colours[..., 3] = 1
    colours[0, 9, 3] = 0  # one wrist was never seen
    turned = colours.copy()
    turned[:, pairs] = colours[:, pairs[:, ::-1]]
    np.testing.assert_allclose(pooled(turned, pairs), pooled(colours, pairs), atol=1e-6)
    wrist = int(np.flatnonzero((pairs == 9).any(axis=1))[0])
    np.testing.assert_allclose(pooled(colours, pairs)[0, wrist, :3], colours[0, 10, :3])
    assert pooled(colours, pairs)[..., 3].all()


def test_people_beyond_the_frame_are_no_error() -> None:
    seen = observed((-20, 100), (405, 210))
    assert sample(FRAME, seen.points, seen.boxes, seen.areas).rgb.shape == (2, 17, 3)
