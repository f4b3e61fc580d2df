"""The flip test's maps of mirror images, turned back."""

from __future__ import annotations

import numpy as np
import pytest

from engines.ops.flip import unmirrored
from tests.shared import SHARED, needs_shared


def test_left_and_right_are_swapped_and_columns_reversed() -> None:
    maps = np.arange(6, dtype=np.float32).reshape(3, 1, 2)
    assert unmirrored(maps, [(1, 2)]).tolist() == [[[1, 0]], [[5, 4]], [[3, 2]]]
    assert unmirrored(maps, [(1, 2)], shift=True).tolist() == [[[1, 1]], [[5, 5]], [[3, 3]]]


@needs_shared
@pytest.mark.parametrize(("shift", "name"), [(False, "avg"), (True, "avg_shift")])
def test_averages_equal_the_authors(shift: bool, name: str) -> None:
    golden = np.load(SHARED / "goldens/decoders/flip_test.npz")
    pairs = [(left, right) for left, right in golden["flip_pairs"].tolist()]
    back = unmirrored(golden["output_of_flipped_input"], pairs, shift=shift)
    np.testing.assert_allclose((golden["output"] + back) / 2, golden[name], atol=1e-6)
