"""The parameters of crops as arrays, for kernels that make many crops at once with the same result as `crop`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.inputs import PixelInput
from engines.ops.affine import grey, input_to_frame, reach, resizable
from engines.poses import Region

_OUTSIDE = (0, 1, -1, 0, 0, 1, -1, 0, 1)


@dataclass(frozen=True, slots=True)
class Sampling:
    """The parameters of all crops of a batch.

    resized: the indices in the batch of the (n,) resized crops. warped: the indices of the (m,) others.
    resizing: (n, 9) int64. Pixels r0..r1 (exclusive) along x of the frame become pixels r2..r3 of the crop, likewise
    r4..r7 along y. Other pixels of the crop repeat the nearest of these, or are grey if r8 is 1.
    warping: (m, 10) float32. Pixel u, v of the crop is the bilinear sample of the frame at x = r0 u + r1 v + r2 and
    y = r3 u + r4 v + r5, clamped to r6..r7 and r8..r9, with grey outside the frame.
    grey: 0..255.
    """

    resized: list[int]
    warped: list[int]
    resizing: NDArray[np.int64]
    warping: NDArray[np.float32]
    grey: int


def sampling(regions: Sequence[Region], sizes: Sequence[tuple[int, int]], pixels: PixelInput) -> Sampling:
    """The parameters with which `crop` crops each region of a frame of the (width, height) in `sizes`."""
    resizing: dict[int, tuple[int, ...]] = {}
    warping: dict[int, tuple[float, ...]] = {}
    for n, (region, (width, height)) in enumerate(zip(regions, sizes, strict=True)):
        overlaps = resizable(region, width, height, pixels)
        if overlaps is None:
            to_frame = input_to_frame(region, pixels)
            left, top, right, bottom = reach(to_frame, pixels)
            if left < min(right, width) and top < min(bottom, height):
                # Samples more than one pixel outside contain nothing of the frame.
                margin = 0 if pixels.pad == "edge" else 1
                bounds = (-margin, width - 1 + margin, -margin, height - 1 + margin)
                warping[n] = (*to_frame.ravel().tolist(), *bounds)
            else:
                resizing[n] = _OUTSIDE
        else:
            x, y = (tuple(round(edge) for edge in overlap) for overlap in overlaps)
            shows = x[1] > x[0] and x[3] > x[2] and y[1] > y[0] and y[3] > y[2]
            resizing[n] = (*x, *y, int(pixels.pad != "edge")) if shows else _OUTSIDE
    return Sampling(
        list(resizing),
        list(warping),
        np.array(list(resizing.values()), np.int64).reshape(-1, 9),
        np.array(list(warping.values()), np.float32).reshape(-1, 10),
        grey(pixels.pad),
    )
