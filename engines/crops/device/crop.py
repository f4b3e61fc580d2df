"""Cuts out all regions of a batch at once on a device: `engines.ops.affine.crop` in torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.crops.device.frames import DeviceFrames
from engines.inputs import PixelInput
from engines.ops.sampling import sampling
from engines.poses import Frame, Region

_ONE = 2048
"""The sum of OpenCV's integer weights of a resize; it then drops 4, 16 and 2 bits of the products."""


def crops(frames: Sequence[Frame], regions: Sequence[Region], pixels: PixelInput, store: DeviceFrames) -> Tensor:
    """Crops of n >= 1 regions, each of its frame: (n, height, width, 3) uint8 on the store's device.

    A frame that occurs several times is copied to the device once. Regions from `align` are resized bit for bit as by
    OpenCV; others may differ from its warp by one grey level.
    """
    distinct = {id(frame): frame for frame in frames}
    copies_of = {key: store.on_device(frame) for key, frame in distinct.items()}
    starts, start = {}, 0
    for key, copy in copies_of.items():
        starts[key] = start
        start += copy.shape[0] * copy.shape[1]
    copies = [copy.reshape(-1, 3) for copy in copies_of.values()]
    flat = copies[0] if len(copies) == 1 else torch.cat(copies)  # (pixels of all frames, 3)
    plan = sampling(regions, [(frame.shape[1], frame.shape[0]) for frame in frames], pixels)

    def frame_rows(batch: Sequence[int]) -> Tensor:
        """(n, 3): first pixel, width and height of the frame of each region."""
        rows = [(starts[id(frame)], frame.shape[1], frame.shape[0]) for frame in (frames[n] for n in batch)]
        return _to_device(torch.tensor(rows), flat.device)

    size = (pixels.width, pixels.height)
    parts, order = [], [*plan.resized, *plan.warped]
    if plan.resized:
        parts.append(_resized(flat, frame_rows(plan.resized), _rows(plan.resizing, flat.device), size, plan.grey))
    if plan.warped:
        parts.append(_warped(flat, frame_rows(plan.warped), _rows(plan.warping, flat.device), size, plan.grey))
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts)[_to_device(torch.tensor(order).argsort(), flat.device)]


def _resized(flat: Tensor, frames: Tensor, rows: Tensor, size: tuple[int, int], grey: int) -> Tensor:
    """OpenCV's bilinear resize of bytes in integer arithmetic (VResizeLinear in resize.cpp). rows: `resizing`."""
    lefts, rights, weights_x, outside_x = _taps(rows[:, :4], size[0])
    tops, bottoms, weights_y, outside_y = _taps(rows[:, 4:8], size[1])
    # Along x a sample beyond the centre of the outermost pixel is that pixel; along y it is a blend of it with itself.
    weights_x = torch.where(lefts == rights, 0, weights_x)
    start, width = frames[:, 0, None, None], frames[:, 1, None, None]

    def line(y: Tensor) -> Tensor:
        """Rows y of the frame, (n, height), resized along x: (n, height, width, 3)."""
        row = start + y[:, :, None] * width
        left, right = (flat[row + x[:, None, :]].int() for x in (lefts, rights))
        weight = weights_x[:, None, :, None]
        return left * (_ONE - weight) + right * weight

    weight = weights_y[:, :, None, None]
    above = (line(tops) >> 4) * (_ONE - weight) >> 16
    below = (line(bottoms) >> 4) * weight >> 16
    outside = (outside_x[:, None, :] | outside_y[:, :, None]) & (rows[:, 8, None, None] > 0)
    return torch.where(outside[..., None], grey, above + below + 2 >> 2).to(torch.uint8)


def _taps(rows: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The samples along one axis, four tensors of (n, size). rows: (n, 4) of `resizing`.

    For each pixel of the crop: the two frame pixels to blend, the weight of the second out of _ONE, and True if the
    pixel lies outside the part of the frame that is shown.
    """
    start, stop, first, last = (rows[:, k, None] for k in range(4))
    at = torch.arange(size, device=rows.device)[None]
    inside = at.clamp(min=first).minimum(last - 1)
    # OpenCV computes the scale in double precision and the position in single.
    scale = 1.0 / ((last - first).double() / (stop - start).double())
    position = ((inside - first + 0.5) * scale - 0.5).float()
    before = position.floor()
    weight = ((position - before) * _ONE).round().int()
    first_tap, second_tap = ((start + before.long() + k).clamp(min=start).minimum(stop - 1) for k in (0, 1))
    return first_tap, second_tap, weight, inside != at


def _warped(flat: Tensor, frames: Tensor, rows: Tensor, size: tuple[int, int], grey: int) -> Tensor:
    """A bilinear warp. rows: `warping`."""
    column = [rows[:, k, None, None] for k in range(10)]
    u = torch.arange(size[0], dtype=rows.dtype, device=flat.device)[None, None, :]
    v = torch.arange(size[1], dtype=rows.dtype, device=flat.device)[None, :, None]
    x = (column[0] * u + column[1] * v + column[2]).clamp(column[6], column[7])
    y = (column[3] * u + column[4] * v + column[5]).clamp(column[8], column[9])
    left, top = x.floor(), y.floor()
    across, down = (x - left)[..., None], (y - top)[..., None]
    start, width, height = (frames[:, k, None, None] for k in range(3))

    def tap(dx: int, dy: int) -> Tensor:
        """The neighbours of the samples, (n, height, width, 3); grey outside the frame."""
        i, j = left.long() + dx, top.long() + dy
        inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
        cell = start + j.clamp(min=0).minimum(height - 1) * width + i.clamp(min=0).minimum(width - 1)
        return torch.where(inside[..., None], flat[cell].to(rows.dtype), float(grey))

    above = torch.lerp(tap(0, 0), tap(1, 0), across)
    below = torch.lerp(tap(0, 1), tap(1, 1), across)
    return torch.lerp(above, below, down).round().to(torch.uint8)


def _rows(rows: NDArray[Any], device: torch.device) -> Tensor:
    return _to_device(torch.from_numpy(rows), device)


def _to_device(small: Tensor, device: torch.device) -> Tensor:
    return small.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else small
