"""The best one-to-one assignment."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from engines.ops.assignment import best_assignment


def test_the_sum_is_maximised_not_the_best_pair() -> None:
    rows, columns = best_assignment(np.array([[10.0, 9.0], [9.0, 1.0]]))
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-10, 10)))
def test_no_other_assignment_is_better(scores: np.ndarray) -> None:
    rows, columns = best_assignment(scores)
    short, long = sorted(scores.shape)
    wide = scores if scores.shape[0] == short else scores.T
    best = max(wide[range(short), order].sum() for order in permutations(range(long), short))

    assert len(rows) == len(set(columns.tolist())) == short
    assert rows.tolist() == sorted(rows.tolist())
    assert scores[rows, columns].sum() == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_empty_scores_give_no_pairs(shape: tuple[int, int]) -> None:
    rows, columns = best_assignment(np.zeros(shape))
    assert len(rows) == len(columns) == 0
