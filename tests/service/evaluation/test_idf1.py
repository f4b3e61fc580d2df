"""IDF1."""

from __future__ import annotations

import pytest

from service.evaluation import Identity, identity
from tests.service.evaluation.videos import SEQUENCES, frame, measurements, videos
from tests.shared import needs_shared


def test_a_person_counts_under_one_id_only() -> None:
    result = identity([[frame({1: 7})] * 6 + [frame({1: 8})] * 4])
    assert result == Identity(true_positives=6, false_negatives=4, false_positives=4)
    assert result.idf1 == result.precision == result.recall == 0.6


def test_an_id_counts_for_one_person_only() -> None:
    # Person 2 takes over id 7; without an id of its own, its frames under 7 are wrong.
    result = identity([[frame({1: 7})] * 3 + [frame({2: 7}, missed=[1])] * 2])
    assert result == Identity(true_positives=3, false_negatives=4, false_positives=2)
    assert result.recall == 3 / 7
    assert result.precision == 3 / 5
    assert result.idf1 == 6 / 12


def test_dissimilar_people_are_not_matched() -> None:
    assert identity([[frame({1: 7}, similarity=0.49)]]) == Identity(0, 1, 1)
    assert identity([[frame({1: 7}, similarity=0.49)]], threshold=0.4).true_positives == 1


def test_videos_are_added() -> None:
    assert identity([[frame({1: 7})], [frame({1: 8}, missed=[2])]]) == Identity(2, 1, 0)


def test_empty_sequences_give_zero() -> None:
    assert identity([[]]) == Identity()
    assert Identity().idf1 == 0


@needs_shared
@pytest.mark.parametrize("name", [*SEQUENCES, "combined"])
def test_metrics_equal_trackevals(name: str) -> None:
    result, theirs = identity(videos(name)), measurements()[name]["Identity"]
    ours = {
        "IDF1": result.idf1,
        "IDR": result.recall,
        "IDP": result.precision,
        "IDTP": result.true_positives,
        "IDFN": result.false_negatives,
        "IDFP": result.false_positives,
    }
    assert ours == pytest.approx({key: theirs[key] for key in ours}, abs=1e-9)
