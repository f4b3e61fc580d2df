"""Batches that are split into several batch sizes."""

from __future__ import annotations

import numpy as np

from engines.runtimes.base import cut_into_batch_sizes, join_batches


def test_a_batch_is_split_into_the_fewest_pieces() -> None:
    assert cut_into_batch_sizes(7, (1, 2, 4)) == [(0, 4), (4, 6), (6, 7)]


def test_outputs_with_fewer_rows_are_padded_with_zeros() -> None:
    two, one = np.ones((2, 3, 5), np.float32), np.ones((1, 4, 5), np.float32)
    joined = join_batches([two, one])
    assert joined.shape == (3, 4, 5)
    assert joined.dtype == np.float32
    assert joined[:2, :3].all()
    assert not joined[:2, 3].any()
    assert joined[2].all()


def test_one_number_per_item_is_concatenated() -> None:
    assert join_batches([np.array([1, 2]), np.array([3])]).tolist() == [1, 2, 3]
