"""Crops as rows of numbers, for a kernel that samples many regions at once and needs to show what `crop` shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engines.ops.affine import grey, input_to_frame, reach, resizable
from engines.poses import Region
from engines.runtimes.base import PixelInput

COLUMNS = 15
"""Of a row, for the pixel u, v of the input:

0-5    its place in the frame, x = r0 u + r1 v + r2 and y = r3 u + r4 v + r5
6-9    u and v are first clamped to r6..r7 and r8..r9
10-13  x and y are then clamped to r10..r11 and r12..r13; the bilinear sample there has grey beyond the frame
14     1 where a pixel whose u or v had to be clamped is grey, 0 where not
"""


def sampling(regions: Sequence[Region], sizes: Sequence[tuple[int, int]], pixels: PixelInput) -> NDArray[np.float32]:
    """(n, COLUMNS): how each region is sampled from its frame, of the (width, height) given beside it."""
    rows = [_row(region, *size, pixels) for region, size in zip(regions, sizes, strict=True)]
    return np.array(rows, np.float32).reshape(-1, COLUMNS)


def grey_of(pixels: PixelInput) -> int:
    """What `grey` means in the rows."""
    return grey(pixels.pad)


def _row(region: Region, width: int, height: int, pixels: PixelInput) -> list[float]:
    to_frame = input_to_frame(region, pixels)
    matrix = to_frame.ravel().tolist()
    nothing = [*matrix, -1, -1, -1, -1, 0, 0, 0, 0, 1]  # every pixel is clamped
    overlaps = resizable(region, width, height, pixels)
    repeat = pixels.pad == "edge"
    if overlaps is None:
        left, top, right, bottom = reach(to_frame, pixels)
        if left >= min(right, width) or top >= min(bottom, height):
            return nothing
        last = (pixels.width - 1, pixels.height - 1)
        # Beyond one pixel outside, no part of a sample is the frame's.
        bounds = (0, width - 1, 0, height - 1) if repeat else (-1, width, -1, height)
        return [*matrix, 0, last[0], 0, last[1], *bounds, 0]
    x, y = (tuple(round(edge) for edge in overlap) for overlap in overlaps)
    if x[1] <= x[0] or y[1] <= y[0] or x[3] <= x[2] or y[3] <= y[2]:
        return nothing
    return [*matrix, x[2], x[3] - 1, y[2], y[3] - 1, x[0], x[1] - 1, y[0], y[1] - 1, 0 if repeat else 1]
