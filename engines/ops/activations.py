"""Functions that networks leave to their decoders."""

from __future__ import annotations

import numpy as np

from engines.poses import Floating


def sigmoid(logits: Floating) -> Floating:
    """1 / (1 + exp(-x)), by way of tanh, which nothing overflows: infinities give 0 and 1, NaN stays NaN."""
    half: Floating = 0.5 * np.tanh(0.5 * logits)
    return half + 0.5
