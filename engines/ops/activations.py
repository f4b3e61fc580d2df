"""Activation functions that decoders apply to raw outputs."""

from __future__ import annotations

import numpy as np

from engines.poses import Floating


def sigmoid(logits: Floating) -> Floating:
    """1 / (1 + exp(-x)), computed with tanh to avoid overflow: infinities give 0 and 1, NaN stays NaN."""
    half: Floating = 0.5 * np.tanh(0.5 * logits)
    return half + 0.5
