"""Heads are found from keypoints, and blurred beyond recognition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.poses import Doubles, Frame, Poses
from engines.skeletons import AP10K_17, COCO_17, COCO_WHOLEBODY_133, FACE_68, HAND_21, MPII_16, Skeleton
from service.media.faces import FaceMemory, UnseenHeadsError, blur_circles, check_heads, head_circles
from tests.people import standing


def person(x: float = 200.0, y: float = 240.0, height: float = 400.0) -> Poses:
    points = standing(x, y, height)[None]
    box = np.array([[*points[0].min(axis=0) - 10, *points[0].max(axis=0) + 10]], np.float32)
    return Poses(points, np.full((1, 17), 0.9, np.float32), box, np.ones(1, np.float32), COCO_17)


def covered(points: Doubles, circles: Doubles) -> bool:
    """True if every point lies in a circle."""
    distances = np.hypot(*(points[:, None] - circles[None, :, :2]).transpose(2, 0, 1))
    return bool((distances <= circles[:, 2]).any(axis=1).all())


def head(height: float = 400.0, x: float = 200.0, y: float = 240.0) -> Doubles:
    """The outline of the head of `person`, from the chin to the hair: 0.13 of its height high."""
    angles = np.linspace(0, 2 * np.pi, 24)
    middle = np.array([x, y - 0.435 * height])
    return middle + height * np.stack([0.05 * np.cos(angles), 0.065 * np.sin(angles)], axis=1)


def noise(width: int = 400, height: int = 480) -> Frame:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_the_whole_head_is_covered_but_not_the_body() -> None:
    circles = head_circles(person())
    assert covered(head(), circles)
    assert not covered(person().keypoints[0, 5:7].astype(np.float64), circles)
    assert circles[:, 2].max() < 60


@pytest.mark.parametrize("hidden", [[0, 1, 2], [0, 2, 4], [1, 2, 3, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("moved", [0.0, 60.0])
def test_a_head_whose_keypoints_are_unsure_and_wrong_is_covered(hidden: list[int], moved: float) -> None:
    poses = person()
    poses.keypoint_scores[0, hidden] = 0.1
    poses.keypoints[0, hidden] += np.float32(moved)
    assert covered(head(), head_circles(poses))


def test_without_sure_keypoints_the_top_of_the_box_is_blurred() -> None:
    poses = person()
    poses.keypoint_scores[:] = 0.05
    poses.keypoints[:] = np.nan
    assert covered(head(), head_circles(poses))


def test_people_who_lie_or_hang_have_their_heads_away_from_the_hips() -> None:
    poses = person()
    poses.keypoint_scores[0, :5] = 0.0
    poses.keypoints[..., 1] = 480 - poses.keypoints[..., 1]
    upside_down = head()
    upside_down[:, 1] = 480 - upside_down[:, 1]
    assert covered(upside_down, head_circles(poses))


@pytest.mark.parametrize("skeleton", [COCO_WHOLEBODY_133, FACE_68, MPII_16, AP10K_17])
def test_heads_are_found_in_every_skeleton_that_has_one(skeleton: Skeleton) -> None:
    check_heads(skeleton)
    poses = person().as_skeleton(skeleton) if skeleton is not FACE_68 else person().as_skeleton(COCO_WHOLEBODY_133)
    assert len(head_circles(poses))


def test_skeletons_without_heads_are_refused() -> None:
    with pytest.raises(UnseenHeadsError, match="hand-21 has no keypoints of heads"):
        check_heads(HAND_21)


def test_nobody_has_no_head() -> None:
    assert head_circles(Poses.empty(COCO_17)).shape == (0, 3)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_keypoints_and_boxes_that_are_not_finite_are_no_error(value: float) -> None:
    poses = person()
    poses.keypoints[0, ::2] = value
    poses.boxes[0, 2] = value
    blur_circles(noise(), head_circles(poses))


@pytest.mark.parametrize(
    ("x", "y", "radius"), [(200, 200, 80), (200, 200, 9), (0, 0, 60), (399, 300, 40), (-20, 5, 50)]
)
def test_two_pictures_that_differ_only_in_details_of_a_face_are_the_same_when_blurred(
    x: float, y: float, radius: float
) -> None:
    rng = np.random.default_rng(1)
    plain = np.full((480, 400, 3), 128, np.uint8)
    detailed = plain.copy()
    # Contrasts of the size of eyes and a mouth: a fifteenth of the circle.
    cell = max(1, round(radius / 15))
    marks = rng.choice([-100, 100], (480 // cell + 1, 400 // cell + 1)).repeat(cell, 0).repeat(cell, 1)[:480, :400]
    detailed = (plain + marks[..., None]).astype(np.uint8)
    blurred = detailed.copy()
    blur_circles(blurred, np.array([[x, y, radius]]))
    down, across = np.mgrid[:480, :400]
    inside = (across - x) ** 2 + (down - y) ** 2 <= radius**2
    assert blurred[inside].astype(float).std() < 0.25 * detailed[inside].astype(float).std()
    steps = np.abs(np.diff(blurred.astype(int), axis=1)).max(axis=2)[inside[:, 1:] & inside[:, :-1]]
    assert steps.max() < 60  # no edge is left
    outside = (across - x) ** 2 + (down - y) ** 2 > (radius + 3) ** 2
    assert (blurred[outside] == detailed[outside]).all()


def test_a_head_of_a_few_pixels_becomes_one_or_two_colours() -> None:
    frame = noise()
    blur_circles(frame, np.array([[100.0, 100.0, 4.0]]))
    assert frame[98:103, 98:103].std() < noise()[98:103, 98:103].std() / 2


def test_a_video_keeps_a_face_blurred_while_it_is_missed() -> None:
    memory: FaceMemory[int] = FaceMemory(0.75, 100)
    here, nobody = np.array([[1.0, 2.0, 3.0]]), np.zeros((0, 3))
    frames: list[tuple[int, Doubles]] = []
    for number in range(40):
        frames += memory.push(number, here if number == 20 else nobody, number / 4)
    frames += memory.flush()
    assert [number for number, _ in frames] == list(range(40))
    assert [number for number, circles in frames if len(circles)] == list(range(17, 24))


def test_frames_that_wait_are_bounded() -> None:
    memory: FaceMemory[int] = FaceMemory(10.0, 4)
    complete = [item for n in range(20) for item, _ in memory.push(n, np.zeros((0, 3)), n / 30)]
    assert complete == list(range(16))


def test_ids_do_not_matter() -> None:
    poses = person()
    np.testing.assert_array_equal(head_circles(poses), head_circles(replace(poses, ids=np.array([7]))))
