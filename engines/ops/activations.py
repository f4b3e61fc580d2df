"""Functions that networks leave to their decoders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floating = NDArray[np.floating[Any]]


def sigmoid(logits: Floating) -> Floating:
    """1 / (1 + exp(-x)), by way of tanh, which nothing overflows: infinities give 0 and 1, NaN stays NaN."""
    half: Floating = 0.5 * np.tanh(0.5 * logits)
    return half + 0.5
