"""Greedy assigns the best pair first; optimal maximises the sum."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from service.tracking.assignment import Method, assign
from service.tracking.similarity import Pairs


def pairs(similarity: list[list[float]], least: float = 0.2) -> Pairs:
    """Those of the matrix that are at least `least`."""
    values = np.array(similarity, np.float32)
    row, column = np.nonzero(values >= least)
    return Pairs(row, column, values[row, column])


def chosen(given: Pairs, method: Method) -> dict[int, int]:
    rows, columns = assign(given, 0.2, method)
    return dict(zip(rows.tolist(), columns.tolist(), strict=True))


def test_greedy_takes_the_best_pair_and_optimal_the_best_sum() -> None:
    given = pairs([[0.9, 0.8], [0.85, 0.1]])
    assert chosen(given, "greedy") == {0: 0}
    assert chosen(given, "optimal") == {0: 1, 1: 0}


@pytest.mark.parametrize("method", ["greedy", "optimal"])
def test_nothing_is_assigned_twice_or_below_the_least_similarity(method: Method) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.uniform(0, 1, (5, 7))
        result = chosen(pairs(values.tolist()), method)
        assert len(set(result.values())) == len(result)
        assert all(values[row, column] >= 0.2 for row, column in result.items())


def test_optimal_is_the_best_of_all_assignments() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = rng.uniform(0.3, 1, (4, 4))
        best = max(sum(values[row, column] for row, column in enumerate(order)) for order in permutations(range(4)))
        result = chosen(pairs(values.tolist()), "optimal")
        assert sum(values[row, column] for row, column in result.items()) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("method", ["greedy", "optimal"])
def test_without_pairs_nothing_is_assigned(method: Method) -> None:
    assert chosen(pairs([[0.1]]), method) == {}


def test_of_equal_pairs_the_first_is_assigned() -> None:
    assert chosen(pairs([[0.5, 0.5], [0.5, 0.5]]), "greedy") == {0: 0, 1: 1}
