"""CLEAR MOT."""

from __future__ import annotations

import pytest

from service.evaluation import ClearMot, TrackedFrame, clear_mot
from tests.service.evaluation.videos import SEQUENCES, frame, measurements, videos
from tests.shared import needs_shared


def test_two_people_who_swap_ids_are_two_switches() -> None:
    video = [
        frame({1: 7, 2: 8}),
        frame({1: 7}, missed=[2]),
        frame({1: 8, 2: 7}),
        frame({1: 8, 2: 7}, extra=[9]),
    ]
    result = clear_mot([video])

    assert (result.matches, result.misses, result.false_positives, result.switches) == (7, 1, 1, 2)
    assert result.fragments == 1  # person 2 was away
    assert (result.mostly_tracked, result.partly_tracked, result.mostly_lost) == (1, 1, 0)
    assert result.mota == 1 - (1 + 1 + 2) / 8
    assert (result.recall, result.precision, result.motp) == (7 / 8, 7 / 8, 1)


def test_a_pair_is_kept_while_it_reaches_the_threshold() -> None:
    rival = TrackedFrame([1], [7, 8], [[0.6, 0.9]])  # type: ignore[arg-type]
    kept = clear_mot([[frame({1: 7}), rival]])
    assert kept.switches == 0
    assert kept.similarity == pytest.approx(1.6)
    gone = TrackedFrame([1], [7, 8], [[0.4, 0.9]])  # type: ignore[arg-type]
    assert clear_mot([[frame({1: 7}), gone]]).switches == 1


def test_the_same_id_after_a_gap_is_no_switch() -> None:
    video = [frame({1: 7}), frame({}, missed=[1]), frame({1: 7}), frame({}, missed=[1]), frame({1: 8})]
    assert clear_mot([video]).switches == 1


@pytest.mark.parametrize(("similarity", "matches"), [(0.49, 0), (0.5, 1)])
def test_a_match_needs_the_threshold(similarity: float, matches: int) -> None:
    result = clear_mot([[frame({1: 7}, similarity)]])
    assert (result.matches, result.misses, result.false_positives) == (matches, 1 - matches, 1 - matches)
    assert clear_mot([[frame({1: 7}, similarity)]], threshold=0.3).matches == 1


def test_ids_of_different_videos_are_unrelated() -> None:
    result = clear_mot([[frame({1: 7})], [frame({1: 8})]])
    assert (result.matches, result.switches) == (2, 0)


def test_empty_sequences_give_zero() -> None:
    assert clear_mot([]) == clear_mot([[]]) == ClearMot()
    assert ClearMot().mota == ClearMot().motp == 0


@needs_shared
@pytest.mark.parametrize("name", [*SEQUENCES, "combined"])
def test_metrics_equal_trackevals(name: str) -> None:
    result, theirs = clear_mot(videos(name)), measurements()[name]["CLEAR"]
    ours = {
        "MOTA": result.mota,
        "MOTP": result.motp,
        "CLR_Re": result.recall,
        "CLR_Pr": result.precision,
        "CLR_TP": result.matches,
        "CLR_FN": result.misses,
        "CLR_FP": result.false_positives,
        "IDSW": result.switches,
        "Frag": result.fragments,
        "MT": result.mostly_tracked,
        "PT": result.partly_tracked,
        "ML": result.mostly_lost,
        "MOTP_sum": result.similarity,
    }
    assert ours == pytest.approx({key: theirs[key] for key in ours}, abs=1e-9)
