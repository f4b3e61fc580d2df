"""Ids for the first poses of people: found backwards, and only where it is clear whose they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.tracking.beginnings import Beginnings

FPS = 25


def poses(*people: tuple[float, int]) -> Poses:
    """People as boxes of 40 x 100 pixels, each with its left side and its id."""
    boxes = np.array([[x, 0, x + 40, 100] for x, _ in people], np.float32).reshape(-1, 4)
    n, k = len(people), len(COCO_17)
    zeros = np.zeros((n, k, 2), np.float32), np.zeros((n, k), np.float32)
    return Poses(*zeros, boxes, np.ones(n, np.float32), COCO_17, np.array([i for _, i in people], np.int64))


def ids(frames: Sequence[Poses], step: float = 1 / FPS) -> list[list[int]]:
    """The ids after all frames, which come out once and in order."""
    beginnings = Beginnings[int]()
    done = [out for n, one in enumerate(frames) for out in beginnings.push(n, one, n * step)]
    assert len(done) < len(frames)
    done += beginnings.flush()
    assert [n for n, _ in done] == list(range(len(frames)))
    return [[] if one.ids is None else one.ids.tolist() for _, one in done]


def test_a_person_has_the_id_from_the_first_pose_on() -> None:
    frames = [poses((3.0 * n, -1)) for n in range(6)] + [poses((3.0 * n, 7)) for n in range(6, 20)]
    assert ids(frames) == [[7]] * 20


def test_a_missed_frame_is_bridged_and_a_long_gap_is_not() -> None:
    for gap, expected in ((2, [[4]] * 2), (15, [[-1]] * 2)):
        frames = [poses((0, -1))] * 2 + [poses()] * gap + [poses((0, 4))] * 3
        assert ids(frames)[:2] == expected


def test_poses_further_back_than_a_tracker_needs_stay_without() -> None:
    frames = [poses((0, -1))] * 40 + [poses((0, 4))]
    given = ids(frames)
    assert given[0] == [-1]
    assert given[39] == [4]


def test_it_stops_where_the_person_might_be_another() -> None:
    two = poses((0, -1), (12, 3))  # the pose without an id overlaps the known person more than the new one does
    frames = [poses((10, -1), (200, 3))] + [two] * 3 + [poses((30, 5), (12, 3))]
    assert [5] not in ids(frames)[:1]
    assert all(len(set(row) - {-1}) == len([i for i in row if i >= 0]) for row in ids(frames))


def test_ids_that_exist_are_never_changed() -> None:
    frames = [poses((0, 1), (300, -1))] * 3 + [poses((0, 1), (300, 2))] * 3
    assert ids(frames) == [[1, 2]] * 6
