"""What a network says of the mirror image, turned back: averaged with what it says of the image, it errs less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.poses import Floats

MIRRORED = " mirrored"
"""What the names of outputs for the mirror image end in."""


def unmirrored(maps: Floats, pairs: Sequence[tuple[int, int]], *, shift: bool = False) -> Floats:
    """(..., K, H, W) maps of the mirror image as maps of the image. pairs: (left, right) of the K that are exchanged.

    shift: one cell further to the right, column 0 as it was, which makes up for the odd cell that strided convolutions
    leave between an image and its mirror image (Simple Baselines' SHIFT_HEATMAP).
    """
    order = np.arange(maps.shape[-3])
    for left, right in pairs:
        order[[left, right]] = right, left
    back = maps[..., order, :, ::-1]
    if not shift:
        return back
    return np.concatenate([back[..., :1], back[..., :-1]], axis=-1)
