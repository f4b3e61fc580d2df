"""Pairing PoseTrack's truth and results."""

from __future__ import annotations

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import POSETRACK_15
from service.evaluation.posetrack import pair
from service.formats.parsing import FormatError
from service.formats.sequence import PoseFrame, PoseSequence
from tests.service.evaluation.joint_frames import NOBODY, people

_HEADS = np.array([[0, 0, 30, 40]], np.float32)
_SQUARE = np.array([[-10, -10], [10, -10], [10, 10], [-10, 10]], np.float32)


def video(name: str, **frames: Poses) -> PoseSequence:
    listed = tuple(PoseFrame(f"{key}.jpg", poses, head_boxes=_HEADS[: len(poses)]) for key, poses in frames.items())
    return PoseSequence(name, POSETRACK_15, listed)


def test_frames_are_paired_by_the_names_of_their_images() -> None:
    first, second = people((1, 0)), people((2, 0))
    frames = pair(video("gt", a=first, b=second), video("pred", b=second))
    assert [len(frame.found) for frame in frames] == [0, 1]
    assert frames[0].head_sizes.tolist() == [0.6 * 50]  # 60 % of the diagonal, as in MPII


def test_joints_in_unlabelled_regions_are_left_out() -> None:
    both = people((1, 0), (2, 1))
    both.keypoints[1, 0] = 0  # one joint of the second is in the square too
    truth = PoseSequence("gt", POSETRACK_15, (PoseFrame("a", both, head_boxes=_HEADS[[0, 0]], ignored=(_SQUARE,)),))
    (frame,) = pair(truth, PoseSequence("pred", POSETRACK_15, (PoseFrame("a", both),)))
    for poses in (frame.truth, frame.found):
        assert poses.ids is not None
        assert poses.ids.tolist() == [2]
        assert (poses.keypoint_scores > 0).sum() == 14


def test_sequences_without_a_common_frame_are_refused() -> None:
    with pytest.raises(FormatError, match=r"pred: none of its frames is one of the truth: b\.jpg against a\.jpg"):
        pair(video("gt", a=NOBODY), video("pred", b=NOBODY))


def test_the_truth_must_have_head_boxes() -> None:
    truth = PoseSequence("gt", POSETRACK_15, (PoseFrame("a.jpg", people((1, 0))),))
    with pytest.raises(FormatError, match=r"gt: the people of a\.jpg have no head boxes"):
        pair(truth, video("pred", a=NOBODY))
