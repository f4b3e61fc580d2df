"""Batches that run as several rungs."""

from __future__ import annotations

import numpy as np

from engines.runtimes.base import cut_into_batch_sizes, join_rungs


def test_a_batch_is_cut_into_the_fewest_rungs() -> None:
    assert cut_into_batch_sizes(7, (1, 2, 4)) == [(0, 4), (4, 6), (6, 7)]


def test_rungs_whose_rows_differ_in_number_are_filled_up_with_zeros() -> None:
    two, one = np.ones((2, 3, 5), np.float32), np.ones((1, 4, 5), np.float32)
    joined = join_rungs([two, one])
    assert joined.shape == (3, 4, 5)
    assert joined.dtype == np.float32
    assert joined[:2, :3].all()
    assert not joined[:2, 3].any()
    assert joined[2].all()


def test_numbers_a_item_stay_as_they_are() -> None:
    assert join_rungs([np.array([1, 2]), np.array([3])]).tolist() == [1, 2, 3]
