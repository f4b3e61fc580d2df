"""PoseTrack's MOTA and MOTP per joint."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.evaluation import CORRECT, POSEVAL, Quirks, posetrack_mot
from tests.service.evaluation.joint_frames import NOBODY, SETS, frame, measured, measurements, people
from tests.shared import needs_shared


def test_a_changed_id_is_one_switch_per_joint() -> None:
    video = [frame(people((1, 0)), people((identity, 0))) for identity in (7, 8, 8)]
    result = posetrack_mot([video], CORRECT)
    assert result.switches.tolist() == [1] * 15
    assert result.mota == pytest.approx(np.full(16, 100 * (1 - 1 / 3)))
    assert (result.recall == 100).all()
    assert (result.precision == 100).all()


def test_misses_and_false_positives_are_counted_per_joint() -> None:
    found = people((7, 0))
    found.keypoints[0, 4] += 500
    result = posetrack_mot([[frame(people((1, 0)), found)]], CORRECT)
    assert result.misses.tolist() == result.false_positives.tolist() == [0] * 4 + [1] + [0] * 10
    assert (result.mota[4], result.mota[0]) == (-100, 100)
    assert np.isnan(result.motp[4])


def test_the_last_id_is_kept_while_it_is_near_enough() -> None:
    near_and_far = people((8, 0), (7, 0.004))  # id 7 is now 0.4 heads away, id 8 on the spot
    result = posetrack_mot([[frame(people((1, 0)), people((7, 0))), frame(people((1, 0)), near_and_far)]], CORRECT)
    assert result.switches.sum() == 0
    assert result.distances == pytest.approx(np.full(15, 0.4), abs=1e-5)


def test_motp_is_the_mean_distance_of_the_matches() -> None:
    video = [frame(people((1, 0)), people((7, 0), off=0.2))] * 4
    assert posetrack_mot([video], CORRECT).motp == pytest.approx(np.full(16, 80), abs=1e-4)
    assert posetrack_mot([video], replace(CORRECT, counts_candidates=True)).motp == pytest.approx(60, abs=1e-4)


def test_poseval_counts_a_handover_again() -> None:
    truth = [people((1, 0)), people((2, 0))]
    video = [frame(each, people((7, 0), off=0.2)) for each in truth]  # person 2 is new, and id 7 was person 1's
    result = posetrack_mot([video], replace(CORRECT, repeats_changes=True))
    assert result.distances == pytest.approx(np.full(15, 4 * 0.2), abs=1e-5)
    assert result.switches.sum() == 0


def test_poseval_leaves_the_last_frame_out() -> None:
    video = [frame(people((1, 0)), people((7, 0)))] * 3 + [frame(people((1, 0)), people((8, 0)))]
    assert posetrack_mot([video], POSEVAL).mota[0] == 100
    assert posetrack_mot([video], CORRECT).mota[0] == 75


def test_poseval_counts_a_frame_without_found_people_as_one_person() -> None:
    video = [frame(people((1, 0), (2, 1), (3, 2)), NOBODY)]
    short = posetrack_mot([video], replace(CORRECT, shortens_empty_frames=True))
    assert (short.misses[0], short.false_positives[0]) == (1, 1)
    full = posetrack_mot([video], CORRECT)
    assert (full.misses[0], full.false_positives[0]) == (3, 0)


def test_people_without_an_id_count_as_not_found() -> None:
    result = posetrack_mot([[frame(people((1, 0)), people((-1, 0)))]], CORRECT)
    assert (result.misses[0], result.false_positives[0]) == (1, 0)


def test_poses_without_ids_cannot_be_measured() -> None:
    with pytest.raises(ValueError, match="these poses have none"):
        posetrack_mot([[frame(people((1, 0)), replace(people((1, 0)), ids=None))]], CORRECT)


def test_ids_of_different_videos_are_unrelated() -> None:
    videos = [[frame(people((1, 0)), people((identity, 0)))] for identity in (7, 8)]
    assert posetrack_mot(videos, CORRECT).switches.sum() == 0


@needs_shared
@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("variant", "quirks"),
    [
        ("MOT_official", POSEVAL),
        ("MOT_official_motp_without_raw", Quirks(counts_candidates=False)),
        ("MOT_all_frames", Quirks(drops_last_frame=False)),
        ("MOT_all_frames_motp_without_raw", Quirks(drops_last_frame=False, counts_candidates=False)),
    ],
)
def test_metrics_equal_posevals(name: str, variant: str, quirks: Quirks) -> None:
    result, theirs = posetrack_mot(measured(name), quirks), measurements(name)[variant]
    assert result.mota == pytest.approx(np.array(theirs["mota"]), abs=1e-4)
    assert result.motp == pytest.approx(np.array(theirs["motp"]), abs=1e-4)
    assert result.precision == pytest.approx(np.array(theirs["pre"]), abs=1e-4)
    assert result.recall == pytest.approx(np.array(theirs["rec"]), abs=1e-4)
