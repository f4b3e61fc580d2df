"""Points inside polygons."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.ops.polygons import contains

_SQUARE = np.array([[-10, -10], [10, -10], [10, 10], [-10, 10]], np.float32)


@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_square_contains_the_points_between_its_sides(x: float, y: float) -> None:
    inside = contains(_SQUARE, np.array([[x, y]]))
    if abs(x) != 10 and abs(y) != 10:
        assert inside.tolist() == [abs(x) < 10 and abs(y) < 10]


def test_a_polygon_may_be_concave() -> None:
    arrow = np.array([[0, 0], [10, 5], [0, 10], [4, 5]], np.float32)
    assert contains(arrow, np.array([[2.0, 5.0], [5.0, 5.0]])).tolist() == [False, True]
