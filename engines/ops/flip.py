"""The flip test: maps of the mirror image, turned back to be averaged with those of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.poses import Floats

MIRRORED = " mirrored"
"""The suffix of the names of outputs for the mirror image."""


def unmirrored(maps: Floats, pairs: Sequence[tuple[int, int]], *, shift: bool = False) -> Floats:
    """(..., K, H, W) maps of the mirror image as maps of the image. pairs: the (left, right) of K to swap.

    shift: move them one cell to the right and keep column 0, to compensate for the cell by which strided convolutions
    misalign an image and its mirror image (Simple Baselines' SHIFT_HEATMAP).
    """
    order = np.arange(maps.shape[-3])
    for left, right in pairs:
        order[[left, right]] = right, left
    back = maps[..., order, :, ::-1]
    if not shift:
        return back
    return np.concatenate([back[..., :1], back[..., :-1]], axis=-1)
