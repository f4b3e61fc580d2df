"""PoseTrack's mAP."""

from __future__ import annotations

import numpy as np
import pytest

from service.evaluation import CORRECT, posetrack_map
from service.evaluation.joints import grouped
from tests.service.evaluation.joint_frames import NOBODY, SETS, frame, measured, measurements, people
from tests.shared import needs_shared


@pytest.mark.parametrize(("off", "ap"), [(0.0, 100), (0.49, 100), (0.51, 0)])
def test_a_joint_is_right_within_half_a_head(off: float, ap: float) -> None:
    result = posetrack_map([[frame(people((1, 0)), people((1, 0), off=off))]])
    assert result.ap == pytest.approx(np.full(16, ap))
    assert result.precision == pytest.approx(np.full(16, ap))
    assert result.recall == pytest.approx(np.full(16, ap))


def test_scores_rank_the_people() -> None:
    truth = people((1, 0))
    stranger_last = posetrack_map([[frame(truth, people((1, 0), (2, 5), scores=[0.9, 0.1]))]])
    stranger_first = posetrack_map([[frame(truth, people((1, 0), (2, 5), scores=[0.1, 0.9]))]])
    assert (stranger_last.ap[0], stranger_first.ap[0]) == pytest.approx((100, 50))
    assert stranger_last.precision[0] == stranger_first.precision[0] == 50


def test_of_two_poses_of_one_person_the_better_counts() -> None:
    found = people((1, 0), (2, 0), scores=[0.5, 0.9])
    found.keypoints[1, :8] += 500  # most of the one with the better score is elsewhere
    result = posetrack_map([[frame(people((1, 0)), found)]])
    assert result.recall == pytest.approx(np.full(16, 100))
    assert result.ap == pytest.approx(np.full(16, 50))


def test_a_joint_that_is_never_labelled_is_not_in_the_mean() -> None:
    truth = people((1, 0))
    truth.keypoint_scores[:, 3] = 0
    found = people((1, 0))
    found.keypoints[:, 4] += 500
    ap = posetrack_map([[frame(truth, found)]]).ap
    assert np.isnan(ap[3])
    assert (ap[4], ap[15]) == pytest.approx((0, 100 * 13 / 14))


def test_columns_are_means_over_their_joints() -> None:
    per_joint = np.arange(15.0)
    groups = grouped(per_joint)
    assert groups["Head"] == 13  # head_bottom 12, nose 13, head_top 14
    assert groups["Ankl"] == 2.5
    assert groups["Total"] == 7


def test_unlabelled_frames_do_not_count() -> None:
    right, unlabelled = frame(people((1, 0)), people((1, 0))), frame(NOBODY, people((1, 0)), labelled=False)
    assert posetrack_map([[right, unlabelled]], CORRECT).precision[0] == 100
    empty = frame(NOBODY, people((1, 0)))
    assert posetrack_map([[right, empty]]).precision[0] == 100
    assert posetrack_map([[right, empty]], CORRECT).precision[0] == 50


def test_no_frames_give_nan() -> None:
    assert np.isnan(posetrack_map([]).ap).all()


@needs_shared
@pytest.mark.parametrize("name", SETS)
def test_metrics_equal_posevals(name: str) -> None:
    result, theirs = posetrack_map(measured(name)), measurements(name)["AP"]
    assert result.ap == pytest.approx(np.array(theirs["ap"]), abs=1e-4)
    assert result.precision == pytest.approx(np.array(theirs["precision"]), abs=1e-4)
    assert result.recall == pytest.approx(np.array(theirs["recall"]), abs=1e-4)
    assert list(grouped(result.ap).values()) == pytest.approx(theirs["cum_table"], abs=1e-4)
