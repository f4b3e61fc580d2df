"""Finds the peaks of heatmaps to a fraction of a cell."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.poses import Floats

_BLUR_SIZE = 21  # cells
BLUR_MARGIN = _BLUR_SIZE // 2
"""The radius in cells of the filter of `blurred_peaks`, and the distance between maps during filtering."""


def find_peaks(heatmaps: Floats) -> tuple[Floats, Floats]:
    """The highest cell of each map: (..., H, W) to its x, y (..., 2) and its value (...).

    The first in reading order wins a tie. A map whose maximum is not above 0 has its peak at 0, 0.
    """
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.reshape(*heatmaps.shape[:-2], height * width)
    best = flat.argmax(axis=-1)
    values = np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
    best = np.where(values > 0, best, 0)
    return np.stack([best % width, best // width], axis=-1).astype(np.float32), values.astype(np.float32)


def local_maxima(scores: Floats, least: float, window: int) -> NDArray[np.intp]:
    """The (k, 2) y, x of cells of a (H, W) map that are at least `least` and the highest of the `window` x `window`
    cells around them; best first.
    """
    around = cv2.dilate(scores, np.ones((window, window), np.uint8))
    cells = np.argwhere((scores >= least) & (scores >= around))
    return cells[np.argsort(-scores[cells[:, 0], cells[:, 1]], kind="stable")]


@np.errstate(invalid="ignore", over="ignore")  # maps of NaN and infinity give NaN, without a warning
def refine_quarter(heatmaps: Floats, peaks: Floats) -> Floats:
    """Move each peak a quarter of a cell towards its higher neighbour, along x and along y.

    Stacked hourglass networks (Newell et al., 2016), section 3.1, as Simple Baselines applies it: a peak in the two
    outermost cells of a side, or between equal neighbours, stays.
    """
    height, width = heatmaps.shape[-2:]
    x, y = peaks[..., 0].astype(np.intp), peaks[..., 1].astype(np.intp)
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    x, y = x.clip(1, width - 2), y.clip(1, height - 2)
    maps = heatmaps.reshape(-1, height, width)
    n = np.arange(len(maps)).reshape(x.shape)
    slope = np.stack([maps[n, y, x + 1] - maps[n, y, x - 1], maps[n, y + 1, x] - maps[n, y - 1, x]], axis=-1)
    moved: Floats = (peaks + 0.25 * np.sign(slope) * inside[..., None]).astype(np.float32)
    return moved


@np.errstate(invalid="ignore", over="ignore")
def refine_dark(heatmaps: Floats, peaks: Floats) -> Floats:
    """Move each peak to the maximum of the Taylor expansion of the logarithm around it, at most a cell away.

    Distribution-aware coordinate representation (DARK, Zhang et al., 2020), equation 9, without its smoothing. A peak
    at a border, or on a surface that is not concave, stays.
    """
    height, width = heatmaps.shape[-2:]
    x, y = peaks[..., 0].astype(np.intp), peaks[..., 1].astype(np.intp)
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    x, y = x.clip(1, width - 2), y.clip(1, height - 2)
    maps = heatmaps.reshape(-1, height, width)
    n = np.arange(len(maps)).reshape(x.shape)[..., None, None]
    around = np.arange(-1, 2)
    patch = np.log(np.maximum(maps[n, y[..., None, None] + around[:, None], x[..., None, None] + around], 1e-6))
    across, down, determinant, concave = taylor(patch)
    good = inside & concave
    offset = np.stack([across, down], axis=-1) / np.where(good, determinant, 1.0)[..., None]
    moved: Floats = (peaks + offset.clip(-1, 1) * good[..., None]).astype(np.float32)
    return moved


def taylor(patch: Any) -> tuple[Any, Any, Any, Any]:
    """The maximum of the second-order Taylor expansion of (..., 3, 3) values, of numpy or torch, around the middle one.

    Returns the numerators of its x and y, their denominator, and whether the surface is concave, each (...).
    """
    dx = 0.5 * (patch[..., 1, 2] - patch[..., 1, 0])
    dy = 0.5 * (patch[..., 2, 1] - patch[..., 0, 1])
    dxx = patch[..., 1, 2] - 2 * patch[..., 1, 1] + patch[..., 1, 0]
    dyy = patch[..., 2, 1] - 2 * patch[..., 1, 1] + patch[..., 0, 1]
    dxy = 0.25 * (patch[..., 2, 2] - patch[..., 2, 0] - patch[..., 0, 2] + patch[..., 0, 0])
    determinant = dxx * dyy - dxy * dxy
    return dxy * dy - dyy * dx, dxy * dx - dxx * dy, determinant, (determinant > 1e-9) & (dxx < 0)


def blur_kernel() -> Floats:
    """The (2 BLUR_MARGIN + 1,) weights of the filter of `blurred_peaks`, along one axis."""
    return cv2.getGaussianKernel(_BLUR_SIZE, 0, cv2.CV_32F).ravel().astype(np.float32, copy=False)


@np.errstate(invalid="ignore", over="ignore")
def blurred_peaks(heatmaps: Floats) -> tuple[Floats, Floats]:
    """The centre of the highest cell of each smoothed map, moved a quarter of a cell towards the second highest.

    As for Cascaded Pyramid Networks (Chen et al., 2018, section 4.1): a Gaussian filter, and a quarter offset in the
    direction of the second response. (..., H, W) to x, y (..., 2) and the maps' values there (...).
    """
    height, width = heatmaps.shape[-2:]
    maps = heatmaps.reshape(-1, height, width)
    n = np.arange(len(maps))
    highest = maps.max(axis=(1, 2), keepdims=True)
    room = ((0, 0), (BLUR_MARGIN, BLUR_MARGIN), (BLUR_MARGIN, BLUR_MARGIN))
    tall = np.pad(np.divide(maps, highest, where=highest > 0, out=np.zeros_like(maps)), room)
    padded_width = tall.shape[2]
    # All maps are smoothed as one image, stacked vertically with margins for the filter.
    smooth = cv2.GaussianBlur(tall.reshape(-1, padded_width), (_BLUR_SIZE, _BLUR_SIZE), 0).reshape(len(maps), -1)
    best = smooth.argmax(axis=1)
    smooth[n, best] = -np.inf
    first, second = (
        np.stack([at % padded_width, at // padded_width], axis=-1).astype(np.float32)
        for at in (best, smooth.argmax(axis=1))
    )
    apart = np.linalg.norm(second - first, axis=-1, keepdims=True)
    last = np.array([width - 1, height - 1], np.float32)
    moved = (first - BLUR_MARGIN + 0.25 * (second - first) / apart).clip(0, last).astype(np.float32)
    x, y = np.rint(moved).astype(np.intp).T
    points = (moved + np.float32(0.5)).reshape(*heatmaps.shape[:-2], 2)
    return points, maps[n, y, x].reshape(heatmaps.shape[:-2]).astype(np.float32)
