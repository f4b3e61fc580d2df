"""Crops regions of a frame to the size of a network's input.

A position is an index: input pixel j of a region shows the frame at `left + j * region.width / input width`. This is
the convention of `Region.to_input` and of the training of the published top-down models, and it maps their heatmaps'
peaks back to the frame. Resizing libraries align the pixels' edges instead, half a pixel off; `align` corrects that.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.inputs import PixelInput
from engines.poses import Frame, Region

_TOLERANCE = 0.02
"""The largest distance in pixels of an edge from a whole pixel that counts as none."""

_MAX_STRETCH = 0.05
"""The largest relative change of a region's side by `align`."""

Pad = int | Literal["edge"]

_LINEAR = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


class Overlap(NamedTuple):
    """The part of a region within the frame along one axis: its range in the frame, and in the input."""

    start: float
    stop: float
    input_start: float
    input_stop: float


def _overlap(center: float, extent: float, frame: int, size: int) -> Overlap:
    pixel = extent / size
    first = center - extent / 2 - _half_pixels(pixel)
    start, stop = max(first, 0.0), min(first + extent, float(frame))
    return Overlap(start, stop, (start - first) / pixel, (stop - first) / pixel)


def _half_pixels(pixel: float) -> float:
    """The offset of an edge from its index: half a frame pixel in one direction, half an input pixel in the other."""
    return (pixel - 1) / 2


def align(region: Region, frame_width: int, frame_height: int, pixels: PixelInput) -> Region:
    """The nearest region that `crop` can resize rather than warp, or `region` itself if none is near.

    Its part within the frame begins and ends on whole pixels, both of the frame and of the input. Decode the network's
    output with the returned region, which is exact. Rotated regions are returned unchanged.
    """
    if region.rotation:
        return region
    x, width = _align_axis(region.center_x, region.width, frame_width, pixels.width)
    y, height = _align_axis(region.center_y, region.height, frame_height, pixels.height)
    return Region(x, y, width, height)


def _align_axis(center: float, extent: float, frame: int, size: int) -> tuple[float, float]:
    start, stop, input_start, input_stop = (round(edge) for edge in _overlap(center, extent, frame, size))
    if stop <= start or input_stop <= input_start:
        return center, extent
    pixel = (stop - start) / (input_stop - input_start)
    if abs(pixel * size / extent - 1) > _MAX_STRETCH:
        return center, extent
    return start + (size / 2 - input_start) * pixel + _half_pixels(pixel), size * pixel


def resizable(
    region: Region, frame_width: int, frame_height: int, pixels: PixelInput
) -> tuple[Overlap, Overlap] | None:
    """The part of `region` within the frame along x and y, if it begins and ends on whole pixels, or else None.

    If the region does not overlap the frame, its stop is before its start.
    """
    if region.rotation:
        return None
    x = _overlap(region.center_x, region.width, frame_width, pixels.width)
    y = _overlap(region.center_y, region.height, frame_height, pixels.height)
    if any(abs(edge - round(edge)) >= _TOLERANCE for edge in (*x, *y)):
        return None
    return x, y


def crop(frame: Frame, region: Region, pixels: PixelInput, out: Frame) -> None:
    """Crop `region` of `frame` into `out` with bilinear interpolation; `pixels.pad` fills pixels outside the frame.

    out: (pixels.height, pixels.width, 3) uint8, such as one slot of a batch: this is the only copy of the pixels.
    Raises ValueError if `out` has another shape.

    Regions from `align` are resized, at a third of the cost of the warp for others (a twentieth for a letterbox).
    At more than two frame pixels per input pixel, some are skipped, as in the training of the published models:
    averaging (INTER_AREA) costs ten times as much and does not improve the AP (0.676 either way for TinyPose).
    """
    if out.shape != (pixels.height, pixels.width, 3):
        raise ValueError(f"out is {out.shape}, the network takes {(pixels.height, pixels.width, 3)}")
    overlaps = resizable(region, frame.shape[1], frame.shape[0], pixels)
    if overlaps is None:
        _warp(frame, region, pixels, out)
    else:
        _resize(frame, *overlaps, pixels.pad, out)


def _resize(frame: Frame, x: Overlap, y: Overlap, pad: Pad, out: Frame) -> None:
    left, right, top, bottom = (round(edge) for edge in (x.input_start, x.input_stop, y.input_start, y.input_stop))
    view = frame[round(y.start) : round(y.stop), round(x.start) : round(x.stop)]
    if not view.size or right <= left or bottom <= top:
        out.fill(grey(pad))
        return
    rows = out[top:bottom]
    cv2.resize(view, (right - left, bottom - top), dst=rows[:, left:right], interpolation=cv2.INTER_LINEAR)
    repeat = pad == "edge"
    rows[:, :left] = rows[:, left : left + 1] if repeat else pad
    rows[:, right:] = rows[:, right - 1 : right] if repeat else pad
    out[:top] = out[top] if repeat else pad
    out[bottom:] = out[bottom - 1] if repeat else pad


def _warp(frame: Frame, region: Region, pixels: PixelInput, out: Frame) -> None:
    to_frame = input_to_frame(region, pixels)
    left, top, right, bottom = reach(to_frame, pixels)
    view = frame[top:bottom, left:right]
    if not view.size:
        out.fill(grey(pixels.pad))
        return
    to_frame[:, 2] -= (left, top)
    size = (pixels.width, pixels.height)
    border = cv2.BORDER_REPLICATE if pixels.pad == "edge" else cv2.BORDER_CONSTANT
    value = (grey(pixels.pad),) * 4
    # OpenCV warps four channels in less than half the time of three, which pays for adding and removing a fourth one
    # (a copy of the source, and one of the result) unless the region is scaled down a lot.
    if view.size < 8 * out.size:
        padded = cv2.cvtColor(view, cv2.COLOR_RGB2RGBA)
        warped = cv2.warpAffine(padded, to_frame, size, flags=_LINEAR, borderMode=border, borderValue=value)
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=out)
    else:
        cv2.warpAffine(view, to_frame, size, dst=out, flags=_LINEAR, borderMode=border, borderValue=value)


def reach(to_frame: NDArray[np.float64], pixels: PixelInput) -> tuple[int, int, int, int]:
    """left, top, right, bottom of the area that a warp may read, unbounded to the right and bottom of the frame."""
    corners = np.array([(x, y, 1) for x in (0, pixels.width) for y in (0, pixels.height)]) @ to_frame.T
    left, top = (max(int(edge) - 2, 0) for edge in corners.min(axis=0))
    right, bottom = (max(int(edge) + 3, 0) for edge in corners.max(axis=0))
    return left, top, right, bottom


def input_to_frame(region: Region, pixels: PixelInput) -> NDArray[np.float64]:
    """The (2, 3) map from an index of the input to an index of the frame, the inverse of `Region.to_input`."""
    cos, sin = np.cos(region.rotation), np.sin(region.rotation)
    x, y = region.width / pixels.width, region.height / pixels.height
    linear = np.array([[cos * x, -sin * y], [sin * x, cos * y]])
    middle = np.array([pixels.width, pixels.height]) / 2
    return np.column_stack([linear, np.array([region.center_x, region.center_y]) - linear @ middle])


def grey(pad: Pad) -> int:
    """The fill value of a region outside the frame, which has no edge to repeat."""
    return 0 if pad == "edge" else pad
