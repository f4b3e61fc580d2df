"""Peaks of heatmaps and their sub-cell refinement."""

from __future__ import annotations

import numpy as np
import pytest

from engines.ops.peaks import find_peaks, local_maxima, refine_dark, refine_quarter


def gaussian(x: float, y: float, *, height: int = 64, width: int = 48, sigma: float = 2.0) -> np.ndarray:
    columns, rows = np.arange(width), np.arange(height)[:, None]
    return np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2)).astype(np.float32)[None]


def test_the_peak_is_the_highest_cell_and_its_value() -> None:
    peaks, values = find_peaks(gaussian(11, 23))
    np.testing.assert_array_equal(peaks, [[11, 23]])
    np.testing.assert_allclose(values, [1.0])


def test_the_first_of_equal_cells_wins() -> None:
    peaks, _ = find_peaks(np.ones((1, 4, 5), np.float32))
    np.testing.assert_array_equal(peaks, [[0, 0]])


def test_a_map_without_values_above_zero_has_its_peak_at_the_origin() -> None:
    peaks, values = find_peaks(np.full((1, 4, 5), -3.0, np.float32))
    np.testing.assert_array_equal(peaks, [[0, 0]])
    np.testing.assert_array_equal(values, [-3.0])


def test_local_maxima_are_the_highest_of_their_neighbourhood_best_first() -> None:
    scores = np.zeros((9, 12), np.float32)
    scores[0, 0], scores[4, 4], scores[4, 6], scores[8, 11] = 0.5, 0.9, 0.8, 0.2
    assert local_maxima(scores, 0.3, 5).tolist() == [[4, 4], [0, 0]]
    assert local_maxima(scores, 0.3, 3).tolist() == [[4, 4], [4, 6], [0, 0]]
    assert local_maxima(np.full((5, 5), np.nan, np.float32), 0.3, 3).tolist() == []


def test_the_quarter_offset_goes_towards_the_higher_neighbour() -> None:
    heatmaps = gaussian(11.3, 22.6)
    refined = refine_quarter(heatmaps, find_peaks(heatmaps)[0])
    np.testing.assert_allclose(refined, [[11.25, 22.75]])


@pytest.mark.parametrize(("x", "y"), [(0.4, 20.0), (1.4, 20.0), (46.6, 20.0), (20.0, 0.4), (20.0, 62.6)])
def test_dark_finds_the_true_centre_and_leaves_peaks_at_the_border(x: float, y: float) -> None:
    heatmaps = gaussian(x, y)
    peaks, _ = find_peaks(heatmaps)
    refined = refine_dark(heatmaps, peaks)
    at_border = bool(peaks[0, 0] in (0, 47) or peaks[0, 1] in (0, 63))
    np.testing.assert_allclose(refined, peaks if at_border else [[x, y]], atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30])
def test_flat_and_extreme_maps_stay_finite(value: float) -> None:
    heatmaps = np.full((2, 3, 8, 6), value, np.float32)
    peaks, _ = find_peaks(heatmaps)
    assert np.isfinite(refine_quarter(heatmaps, peaks)).all()
    assert np.isfinite(refine_dark(heatmaps, peaks)).all()
