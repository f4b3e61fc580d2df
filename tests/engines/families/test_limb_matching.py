"""Limb matching: from fields to limbs, and from limbs to people."""

from __future__ import annotations

import numpy as np

from engines.families.limb_matching import assemble, limb_scores, matches, peaks

EAST = np.zeros((20, 30, 2), np.float32)
EAST[8:13, :, 0] = 1.0  # along rows 8 to 12 the field points to the right


def test_peaks_are_higher_than_their_neighbours() -> None:
    heatmaps = np.zeros((10, 10, 2), np.float32)
    heatmaps[3, 4, 0], heatmaps[7, 8, 0], heatmaps[1, 1, 0] = 0.5, 0.9, 0.05
    heatmaps[..., 1] = 0.7  # nothing stands out
    found, none = peaks(heatmaps, 0.1, 10)
    np.testing.assert_allclose(found, [(8, 7, 0.9), (4, 3, 0.5)])
    assert len(none) == 0
    assert len(peaks(heatmaps, 0.1, 1)[0]) == 1


def test_a_field_supports_limbs_along_it() -> None:
    starts = np.array([(5, 10), (5, 3)], np.float32)
    ends = np.array([(12, 10), (12, 3)], np.float32)
    scores = limb_scores(EAST, starts, ends)
    np.testing.assert_allclose(scores[0, 0], 1.0)
    assert scores[1, 1] == 0  # where there is no field
    assert limb_scores(EAST, ends, starts)[0, 0] == 0  # against it
    assert 0 < limb_scores(EAST, starts[:1], np.array([(25, 10)], np.float32))[0, 0] < 1  # too long


def test_the_sum_of_all_scores_is_maximised() -> None:
    assert matches(np.array([[0.9, 0.8], [0.8, 0.1]], np.float32)) == [(0, 1), (1, 0)]
    assert matches(np.array([[0.9, 0.0], [0.0, 0.0]], np.float32)) == [(0, 0)]
    assert matches(np.zeros((2, 3), np.float32)) == []


def test_limbs_with_a_common_end_are_one_person() -> None:
    limbs = [(0, 1), (1, 2), (3, 2)]
    people = assemble(limbs, [[(0, 0), (1, 1)], [(0, 5)], [(7, 5)]])
    assert people == [{0: 0, 1: 0, 2: 5, 3: 7}, {0: 1, 1: 1}]


def test_a_limb_between_two_whole_people_does_not_join_them() -> None:
    people = assemble([(0, 1), (1, 2), (0, 2)], [[(0, 0), (1, 1)], [(0, 0), (1, 1)], [(0, 1)]])
    assert people == [{0: 0, 1: 0, 2: 0}, {0: 1, 1: 1, 2: 1}]
