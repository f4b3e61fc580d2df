"""Skeletons and trails are drawn where the people are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.poses import Frame, Poses
from engines.skeletons import BLAZEPOSE_33, COCO_17, COCO_WHOLEBODY_133, FACE_68, HAND_21, Skeleton, define
from service.media.draw import Trail, Trails, draw
from tests.service.tracking.walkers import standing

GREY = 100


def canvas(width: int = 200, height: int = 200) -> Frame:
    return np.full((height, width, 3), GREY, np.uint8)


def person(offset: float = 0.0, skeleton: Skeleton = COCO_17, size: float = 100.0) -> Poses:
    """A person in a square: keypoints in order from top to bottom, left keypoints at the left edge."""
    across = {"left": 0.0, "right": 1.0}
    x = np.array([across.get(name.partition("_")[0], 0.5) for name in skeleton.keypoints], np.float32) * size
    y = np.linspace(0, size, len(skeleton), dtype=np.float32)
    points = np.stack([x, y], axis=1)[None] + np.float32(20 + offset)
    box = np.array([[20, 20, 20 + size, 20 + size]], np.float32) + np.float32(offset)
    ones = np.ones((1, len(skeleton)), np.float32)
    return Poses(points, ones, box, np.ones(1, np.float32), skeleton)


def drawn(picture: Frame) -> NDArray[np.bool_]:
    return np.asarray((picture != GREY).any(axis=2))


def colours(picture: Frame) -> set[tuple[int, ...]]:
    """The colours inside lines and dots: bright, and on several pixels."""
    values, counts = np.unique(picture[drawn(picture)], axis=0, return_counts=True)
    pure = (values.max(axis=1) > 200) & (counts >= 8)
    return {tuple(value.tolist()) for value in values[pure]}


@pytest.mark.parametrize("skeleton", [COCO_17, BLAZEPOSE_33, COCO_WHOLEBODY_133, HAND_21, define("dots", "abc")])
def test_dots_are_drawn_at_keypoints_on_a_copy(skeleton: Skeleton) -> None:
    pixels, poses = canvas(), person(skeleton=skeleton)
    pixels.flags.writeable = False
    marks = drawn(draw(pixels, poses))

    assert all(marks[int(y), int(x)] for x, y in poses.keypoints[0])
    assert not marks[:, 150:].any()
    assert not drawn(pixels).any()


def test_keypoints_with_low_scores_are_left_out() -> None:
    poses = person()
    poses.keypoint_scores[0] = 0.29
    assert not drawn(draw(canvas(), poses)).any()
    assert drawn(draw(canvas(), poses, min_keypoint_score=0.2)).any()
    poses.keypoint_scores[0, 0] = 0.9
    alone = drawn(draw(canvas(), poses))
    assert alone[20, 70]
    assert alone.sum() < 200  # a dot, and no limbs to missing keypoints


def test_left_right_and_middle_have_different_colours_and_a_dark_outline() -> None:
    picture = draw(canvas(1000, 1000), person(size=900))
    assert {(255, 149, 0), (0, 208, 255), (255, 255, 255)} <= colours(picture)
    assert (picture == 0).all(axis=2).any()


def test_people_have_different_colours_and_ids_keep_theirs() -> None:
    two = Poses.join([person(size=50), person(offset=100, size=50)])
    pair = draw(canvas(), two)
    first, second = colours(pair[:100, :100]), colours(pair[100:, 100:])
    assert not first & second

    swapped = draw(canvas(), replace(two, ids=np.array([1, 0])))
    assert colours(swapped[100:, 100:]) == first
    alone = draw(canvas(), replace(two.select(slice(1)), ids=np.array([0])))
    assert colours(alone) == first


def test_pairs_that_a_user_gives_have_the_colours_of_their_sides() -> None:
    own = define("own", ["a", "b"], pairs=[["b", "a"]])
    points = np.array([[[100, 300], [500, 300]]], np.float32)
    box, ones = np.array([[0, 0, 600, 600]], np.float32), np.ones((1, 2), np.float32)
    picture = draw(canvas(600, 600), Poses(points, ones, box, ones[0, :1], own))
    assert picture[300, 100].tolist() == [0, 208, 255]
    assert picture[300, 500].tolist() == [255, 149, 0]


def test_a_face_and_hands_of_a_whole_body_are_finer_than_the_body() -> None:
    poses = person(skeleton=COCO_WHOLEBODY_133, size=900)
    rows = [COCO_WHOLEBODY_133.keypoints.index(name) for name in FACE_68.keypoints]
    poses.keypoints[0, rows] = [450, 450] + person(skeleton=FACE_68, size=90).keypoints[0]
    others = np.ones(133, np.bool_)
    others[rows] = False

    def marks(shown: NDArray[np.bool_]) -> int:
        scores = np.where(shown, 1, 0).astype(np.float32)[None]
        return int(drawn(draw(canvas(1000, 1000), replace(poses, keypoint_scores=scores))).sum())

    dot = np.zeros(133, np.bool_)
    dot[5] = True
    assert marks(~others) < 8 * marks(dot)  # 68 keypoints and their lines


def test_lines_are_wider_for_larger_people_and_frames() -> None:
    small = drawn(draw(canvas(1000, 1000), person(size=60))).sum() / 60
    large = drawn(draw(canvas(1000, 1000), person(size=600))).sum() / 600
    assert large > 1.5 * small


def test_boxes_and_labels_are_drawn_on_request() -> None:
    poses = person()
    plain = drawn(draw(canvas(), poses))
    boxed = drawn(draw(canvas(), poses, boxes=True))
    assert boxed[120, 40]
    assert not plain[120, 40]
    for labels, ids in ((True, False), (False, True)):
        labelled = draw(canvas(), replace(poses, ids=np.array([12])), labels=labels, ids=ids)
        assert (labelled[:20] > 200).all(axis=2).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_points_that_are_not_finite_are_not_drawn(value: float) -> None:
    poses = person()
    poses.keypoints[0, ::2] = value
    poses.boxes[0, :2] = value
    picture = draw(canvas(), poses, boxes=True, labels=True)
    assert drawn(picture)[int(poses.keypoints[0, 1, 1]), int(poses.keypoints[0, 1, 0])]


def test_people_may_extend_beyond_the_frame() -> None:
    marks = drawn(draw(canvas(60, 60), person(), boxes=True, labels=True))
    assert marks.shape == (60, 60)
    assert marks.any()


@pytest.mark.parametrize("size", [(1, 1), (3, 500)])
def test_tiny_pictures_can_be_drawn_on(size: tuple[int, int]) -> None:
    assert draw(canvas(*size), person(), boxes=True, labels=True).shape[1::-1] == size


def test_a_frame_without_people_is_copied() -> None:
    pixels = canvas()
    copy = draw(pixels, Poses.empty(COCO_17), labels=True)
    assert copy is not pixels
    assert (copy == pixels).all()


def test_a_trail_has_the_recent_positions_of_the_hips() -> None:
    trails = Trails(1.0)
    for n in range(50):
        shown = trails.update(standing({3: (10.0 * n, 200.0)}), n / 8)
    (trail,) = shown
    assert trail.id == 3
    assert trail.points[:, 0].tolist() == [410 + 10 * n for n in range(9)]
    assert trail.points[:, 1].tolist() == [180.0] * 9
    assert trail.ages.tolist() == [1 - n / 8 for n in range(9)]


def test_trails_of_people_who_left_expire() -> None:
    trails = Trails(1.0)
    for n in range(10):
        trails.update(standing({3: (10.0 * n, 200.0)}), n / 10)
    nobody = replace(Poses.empty(COCO_17), ids=np.zeros(0, np.int64))
    assert len(trails.update(nobody, 1.5)[0].points) == 5
    assert trails.update(nobody, 2.0) == []


def test_a_trail_bridges_frames_with_hidden_hips() -> None:
    trails = Trails(1.0)
    trails.update(standing({3: (10.0, 200.0)}), 0.0)
    trails.update(standing({3: (500.0, 200.0)}, score=0.1), 0.1)
    (trail,) = trails.update(standing({3: (30.0, 200.0)}), 0.2)
    assert trail.points[:, 0].tolist() == [10.0, 30.0]


def test_without_hips_a_trail_has_the_middle_of_all_keypoints() -> None:
    poses = replace(person(skeleton=HAND_21), ids=np.array([1]))
    (trail,) = Trails(1.0).update(poses, 0.0)
    np.testing.assert_allclose(trail.points, [poses.keypoints[0].mean(axis=0)])
    poses.keypoint_scores[:] = 0.1
    assert Trails(1.0).update(poses, 0.0) == []


def test_people_without_an_id_have_no_trail() -> None:
    trails = Trails(1.0)
    assert trails.update(standing({-1: (5.0, 5.0)}), 0.0) == []
    assert trails.update(replace(standing({1: (5.0, 5.0)}), ids=None), 0.1) == []


def test_memory_is_bounded_at_any_frame_rate_and_the_trail_keeps_its_length() -> None:
    trails = Trails(10.0)
    for n in range(20_000):
        (trail,) = trails.update(standing({1: (float(n), 200.0)}), n / 1000)
    assert len(trail.points) <= 256
    assert trail.points[-1, 0] == 19_999
    assert trail.ages[0] > 0.9


def test_trails_are_drawn_below_the_people_in_their_colours() -> None:
    canvas = np.full((1000, 1000, 3), 100, np.uint8)
    points = np.array([[100, 200], [500, 200], [900, 200]], np.float32)
    picture = draw(canvas, Poses.empty(COCO_17), trails=[Trail(5, points, np.array([1.0, 0.6, 0.0], np.float32))])
    marked = (picture != 100).any(axis=2)
    assert marked[200, 100:900].all()
    assert not marked[:150].any()
    assert marked[:, 800].sum() > marked[:, 300].sum()
    person = draw(canvas, standing({5: (500.0, 800.0)}, height=400), boxes=True)
    assert (person == picture[200, 800]).all(axis=2).any()
    assert not (draw(canvas, standing({6: (500.0, 800.0)}), boxes=True) == picture[200, 800]).all(axis=2).any()


def test_trail_points_that_are_not_finite_are_no_error() -> None:
    points = np.array([[20, 50], [np.nan, 50], [1e30, 50], [100, 50]], np.float32)
    picture = draw(
        np.zeros((100, 100, 3), np.uint8), Poses.empty(COCO_17), trails=[Trail(1, points, np.zeros(4, np.float32))]
    )
    assert picture.shape == (100, 100, 3)


def test_keypoints_are_fainter_the_less_sure_they_are() -> None:
    dots = define("dots", "a")
    brightness = []
    for score in (0.3, 0.5, 0.9):
        one = Poses(
            np.full((1, 1, 2), 30, np.float32), np.full((1, 1), score, np.float32),
            np.array([[0, 0, 60, 60]], np.float32), np.ones(1, np.float32), dots,
        )  # fmt: skip
        brightness.append(int(draw(np.zeros((60, 60, 3), np.uint8), one)[30, 30].max()))
    assert brightness == sorted(brightness)
    assert 60 < brightness[0] < 200 < brightness[2]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_everything_contrasts_with_any_background(level: int) -> None:
    picture = draw(np.full((200, 200, 3), level, np.uint8), person(), boxes=True, ids=True).astype(int)
    for x, y in person().keypoints[0].astype(int):
        near = picture[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].reshape(-1, 3)
        assert near.max() - near.min() > 120


def test_colours_tell_sides_or_people_apart() -> None:
    two = Poses.join([person(size=50), person(offset=100, size=50)])
    sides = draw(canvas(), two, colours="side")
    assert colours(sides[:100, :100]) == colours(sides[100:, 100:])
    alone = draw(canvas(1000, 1000), person(size=900), colours="identity")
    assert (255, 149, 0) not in colours(alone)


def test_a_black_background_replaces_the_picture_but_not_its_pixels() -> None:
    pixels = canvas()
    picture = draw(pixels, person(), background="black")
    assert (picture[:10] == 0).all()
    assert (pixels == GREY).all()


def test_blurred_faces_lie_below_the_skeleton() -> None:
    poses = person()
    circle = np.array([[*poses.keypoints[0, 0], 40.0]])
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    picture = draw(noise, poses, faces=circle)
    x, y = poses.keypoints[0, 0].astype(int)
    assert np.abs(np.diff(picture[y - 15, x - 20 : x + 20].astype(int), axis=0)).max() < 40
    assert (picture[y - 2 : y + 3, x - 2 : x + 3] > 200).all(axis=2).any()
