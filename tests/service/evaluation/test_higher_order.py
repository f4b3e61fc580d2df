"""HOTA."""

from __future__ import annotations

import numpy as np
import pytest

from service.evaluation import ALPHAS, TrackedFrame, hota
from tests.service.evaluation.videos import SEQUENCES, frame, measurements, videos
from tests.shared import needs_shared


def test_a_perfect_tracker_scores_one() -> None:
    assert hota([[frame({1: 7, 2: 8})] * 3]).hota == 1


def test_a_changed_id_lowers_association_only() -> None:
    result = hota([[frame({1: 7})] * 6 + [frame({1: 8})] * 4])
    association = (6 * 6 / 10 + 4 * 4 / 10) / 10  # 6 frames that agree with 6 of 10, 4 that agree with 4
    assert result.det_a == pytest.approx(np.ones(19))
    assert result.ass_a == pytest.approx(np.full(19, association))
    assert result.ass_re == pytest.approx(np.full(19, association))
    assert result.ass_pr == pytest.approx(np.ones(19))
    assert result.hota == pytest.approx(np.sqrt(association))


def test_misses_and_extra_people_lower_detection() -> None:
    result = hota([[frame({1: 7}, missed=[2]), frame({1: 7}, extra=[9])]])
    assert result.det_a == pytest.approx(np.full(19, 2 / 4))
    assert result.det_re == pytest.approx(np.full(19, 2 / 3))
    assert result.det_pr == pytest.approx(np.full(19, 2 / 3))
    assert result.ass_a == pytest.approx(np.ones(19))


def test_matches_are_counted_per_threshold() -> None:
    result = hota([[frame({1: 7}, similarity=0.72)] * 2])
    assert result.matches.tolist() == [2.0] * 14 + [0.0] * 5  # 0.05 to 0.70, and not from 0.75
    assert result.hota == pytest.approx(14 / 19)
    assert result.loc_a == pytest.approx(np.where(ALPHAS < 0.72, 0.72, 1))


def test_the_matching_favours_ids_that_agree_over_time() -> None:
    # In the last frame id 8 is nearer to person 1, but 7 matched person 1 in all other frames.
    video = [frame({1: 7, 2: 8})] * 9 + [TrackedFrame([1], [7, 8], [[0.6, 0.7]])]  # type: ignore[arg-type]
    result = hota([video])
    assert result.similarity[0] == pytest.approx(9 * 2 + 0.6)


def test_empty_sequences_give_zero() -> None:
    assert hota([]).hota == hota([[]]).hota == hota([[frame({}, missed=[1])]]).hota == 0


@needs_shared
@pytest.mark.parametrize("name", [*SEQUENCES, "combined"])
def test_metrics_equal_trackevals(name: str) -> None:
    result, theirs = hota(videos(name)), measurements()[name]["HOTA"]
    ours = {
        "HOTA": result.hota_per_alpha,
        "DetA": result.det_a,
        "AssA": result.ass_a,
        "DetRe": result.det_re,
        "DetPr": result.det_pr,
        "AssRe": result.ass_re,
        "AssPr": result.ass_pr,
        "LocA": result.loc_a,
        "HOTA_TP": result.matches,
        "HOTA_FN": result.misses,
        "HOTA_FP": result.false_positives,
    }
    for key, values in ours.items():
        assert values == pytest.approx(np.array(theirs[key]), abs=1e-9), key
