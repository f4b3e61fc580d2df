"""The best one-to-one assignment of rows to columns."""

from __future__ import annotations

from typing import Any

import lap
import numpy as np
from numpy.typing import NDArray


def best_assignment(scores: NDArray[np.floating[Any]]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows and columns of the pairs with the highest sum of scores; all rows or all columns are assigned.

    scores: (N, M) finite. Returns two arrays of min(N, M) indices, rows ascending. Algorithm: Jonker and Volgenant, "A
    Shortest Augmenting Path Algorithm for Dense and Sparse Linear Assignment Problems", Computing 38, 1987.
    """
    if not scores.size:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    _, columns, _ = lap.lapjv(scores.max() - scores.astype(np.float64), extend_cost=True)
    rows = np.flatnonzero(columns >= 0)
    return rows, columns[rows].astype(np.intp)
