"""Tracked frames of a video with their final identities: complete, in order, and none is lost or changed otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engines.skeletons import COCO_17
from service.media.video_reader import VideoFrame
from service.offline.identities import OfflineIdentities
from tests.service.tracking.test_joining import FPS, RED, frame_of, together, walk


def test_frames_come_back_with_joined_ids_and_everything_else_as_it_was(tmp_path: Path) -> None:
    people = together(walk(1, 50, RED, 0, 25), walk(2, 50, RED, 30, 60))
    frames = []
    with OfflineIdentities(COCO_17, tmp_path) as identities:
        for n, one in enumerate(people):
            picture, found = frame_of(one)
            frames.append((VideoFrame(n, picture, 40 * n, n / FPS), found))
            identities.add(*frames[-1])
        records = list(identities.read())
    assert len(records) == len(identities) == 60
    assert identities.ids == {1}
    for record, (frame, found) in zip(records, frames, strict=True):
        assert (record.number, record.pts, record.seconds) == (frame.number, frame.pts, frame.seconds)
        np.testing.assert_array_equal(record.people.keypoints, found.keypoints)
        np.testing.assert_array_equal(record.people.scores, found.scores)
        assert record.people.ids is not None
        assert record.people.ids.tolist() == [1] * len(found)
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_people(tmp_path: Path) -> None:
    with OfflineIdentities(COCO_17, tmp_path) as identities:
        picture, found = frame_of({})
        identities.add(VideoFrame(0, picture, 0, 0.0), found)
        assert [len(record.people) for record in identities.read()] == [0]
    assert identities.ids == set()
