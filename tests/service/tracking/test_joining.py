"""Joining ids after the fact: who goes on where somebody stopped, dressed alike, is one person; others are not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engines.poses import Frame, Poses
from engines.skeletons import COCO_17
from service.tracking.joining import TrackJoiner, rename

WIDTH, HEIGHT, FPS = 640, 480, 10
RED, BLUE = (200, 30, 30), (30, 30, 200)
People = Mapping[int, tuple[float, tuple[int, int, int]]]
"""The left side and the colour of each id."""


def frame_of(people: People) -> tuple[Frame, Poses]:
    """People of 60 x 150 pixels in plain colours."""
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    x, y = np.meshgrid(np.linspace(15, 45, 4), np.linspace(15, 135, 5))
    places = np.stack([x.ravel(), y.ravel()], axis=1)[: len(COCO_17)].astype(np.float32)
    keypoints, boxes = [], []
    for left, colour in people.values():
        picture[200:350, max(0, int(left)) : max(0, int(left) + 60)] = colour
        keypoints.append(places + np.array([left, 200]))
        boxes.append([left, 200, left + 60, 350])
    n, k = len(people), len(COCO_17)
    points = np.array(keypoints, np.float32).reshape(n, k, 2)
    found = Poses(
        points,
        np.ones((n, k), np.float32),
        np.array(boxes, np.float32).reshape(n, 4),
        np.ones(n, np.float32),
        COCO_17,
        np.array(list(people), np.int64),
    )
    return picture, found


def joined(frames: list[People]) -> dict[int, int]:
    joiner = TrackJoiner(COCO_17)
    for n, people in enumerate(frames):
        picture, found = frame_of(people)
        joiner.add(found, picture, n / FPS)
    return joiner.joined()


def walk(number: int, start: float, colour: tuple[int, int, int], first: int, last: int) -> list[People]:
    """Somebody who goes 4 pixels a frame, in sight from frame `first` to `last` of 60."""
    return [{number: (start + 4 * n, colour)} if first <= n < last else {} for n in range(60)]


def together(*walks: list[People]) -> list[People]:
    return [{number: at for one in frame for number, at in one.items()} for frame in zip(*walks, strict=True)]


def test_who_goes_on_after_a_moment_is_one_person() -> None:
    frames = together(walk(1, 50, RED, 0, 25), walk(2, 50, RED, 30, 60))
    assert joined(frames) == {2: 1}


def test_somebody_in_other_clothes_elsewhere_is_not() -> None:
    assert joined(together(walk(1, 50, RED, 0, 25), walk(2, 250, BLUE, 45, 60))) == {}


def test_who_are_in_sight_together_are_not() -> None:
    assert joined(together(walk(1, 50, RED, 0, 31), walk(2, 60, RED, 30, 60))) == {}


def test_of_two_who_fit_equally_well_none_is_joined() -> None:
    assert joined(together(walk(1, 50, RED, 0, 25), walk(2, 45, RED, 30, 60), walk(3, 55, RED, 30, 60))) == {}


def test_a_chain_of_ids_becomes_the_first() -> None:
    frames = together(walk(1, 50, RED, 0, 15), walk(2, 50, RED, 18, 35), walk(3, 50, RED, 38, 60))
    assert joined(frames) == {2: 1, 3: 1}


def test_nobody_is_joined_after_a_minute_and_long_videos_need_little_memory() -> None:
    joiner = TrackJoiner(COCO_17)
    for n in range(400):  # somebody else every 20 s, an hour and more long
        picture, found = frame_of({n + 1: (100.0, RED)})
        for offset in (0, 1, 2):
            joiner.add(found, picture, 100.0 * n + offset)
    assert len(joiner._lives) < 10
    assert joiner.joined() == {}


def test_two_poses_of_a_frame_never_get_one_id() -> None:
    _, found = frame_of({1: (0, RED), 2: (100, RED), 3: (200, RED)})
    renamed = rename(found, {2: 1}).ids
    assert renamed is not None
    assert renamed.tolist() == [1, -1, 3]
