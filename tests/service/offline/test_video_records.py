"""The poses of a frame are journaled without loss, and a fingerprint tells videos apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import ormsgpack
import pytest

from engines.poses import Poses
from engines.skeletons import BLAZEPOSE_33, COCO_17, MPII_16
from service.offline.journal import DamagedJournalError
from service.offline.video_records import JournaledFrame, fingerprint, pack, unpack
from tests.service.formats.people import two_people
from tests.service.tracking.walkers import standing


def test_poses_are_decoded_from_a_record_without_loss() -> None:
    rng = np.random.default_rng(0)
    poses = Poses(
        rng.random((3, 33, 2), np.float32),
        rng.random((3, 33), np.float32),
        rng.random((3, 4), np.float32),
        rng.random(3, np.float32),
        BLAZEPOSE_33,
        keypoints_3d=rng.random((3, 33, 3), np.float32),
    )
    frame = unpack(pack(JournaledFrame(12_345, False, poses)), BLAZEPOSE_33)
    assert (frame.pts, frame.detected) == (12_345, False)
    for name in ("keypoints", "keypoint_scores", "boxes", "scores", "keypoints_3d"):
        np.testing.assert_array_equal(getattr(frame.poses, name), getattr(poses, name))


def test_a_frame_without_people_can_be_recorded() -> None:
    assert len(unpack(pack(JournaledFrame(0, True, Poses.empty(COCO_17))), COCO_17).poses) == 0
    one = replace(standing({1: (5.0, 5.0)}), ids=None)
    assert unpack(pack(JournaledFrame(0, True, one)), COCO_17).poses.keypoints_3d is None


def test_fingerprints_differ_where_any_hashed_part_differs(tmp_path: Path) -> None:
    path = tmp_path / "a"
    prints = set()
    for content in (b"", b"a", b"b", b"ab", bytes(3_000_000), bytes(2_999_999) + b"1", b"1" + bytes(2_999_999)):
        path.write_bytes(content)
        prints.add(fingerprint(path))
    assert len(prints) == 7


@pytest.mark.parametrize("record", [b"", b"\xff", ormsgpack.packb([1]), ormsgpack.packb([1, True, "a", 2, 3, 4, None])])
def test_a_record_that_is_not_a_frame_is_an_error(record: bytes) -> None:
    with pytest.raises(DamagedJournalError, match="delete it to start anew"):
        unpack(record, COCO_17)


def test_a_frame_is_decoded_without_loss() -> None:
    frame = JournaledFrame(3, True, two_people())
    np.testing.assert_array_equal(unpack(pack(frame), COCO_17).poses.keypoints, frame.poses.keypoints)
    with pytest.raises(DamagedJournalError):
        unpack(pack(frame), MPII_16)
