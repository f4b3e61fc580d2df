"""The sigmoid, including extreme values."""

from __future__ import annotations

import numpy as np

from engines.ops.activations import sigmoid


def test_it_is_the_logistic_function() -> None:
    logits = np.linspace(-8, 8, 33)
    np.testing.assert_allclose(sigmoid(logits), 1 / (1 + np.exp(-logits)), atol=1e-12)


def test_extreme_logits_do_not_overflow() -> None:
    logits = np.array([-np.inf, -1e30, 1e30, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(sigmoid(logits), np.array([0, 0, 1, 1, np.nan], np.float32))
    assert sigmoid(logits).dtype == np.float32
