"""Regions of frames cut out on a device, all of a batch at once: `engines.ops.affine.crop` in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.ops.sampling import grey_of, sampling
from engines.poses import Frame, Region
from engines.runtimes.base import PixelInput
from engines.runtimes.device.frames import DeviceFrames


def crops(frames: Sequence[Frame], regions: Sequence[Region], pixels: PixelInput, store: DeviceFrames) -> Tensor:
    """What each of n >= 1 regions shows of its frame: (n, height, width, 3) uint8 on the store's device.

    The same frame may come many times, and is sent to the device once. Differs from `crop` by what OpenCV rounds on
    its way: a grey level or two where neighbours differ much.
    """
    distinct = {id(frame): frame for frame in frames}
    there = {key: store.on_device(frame) for key, frame in distinct.items()}
    starts, start = {}, 0
    for key, copy in there.items():
        starts[key] = start
        start += copy.shape[0] * copy.shape[1]
    flat = [copy.view(-1, 3) for copy in there.values()]
    device = flat[0].device
    places = torch.tensor([(starts[id(frame)], frame.shape[1], frame.shape[0]) for frame in frames])
    rows = torch.from_numpy(sampling(regions, [(frame.shape[1], frame.shape[0]) for frame in frames], pixels))
    return _sample(
        flat[0] if len(flat) == 1 else torch.cat(flat),
        _sent(places, device),
        _sent(rows, device),
        (pixels.width, pixels.height),
        grey_of(pixels),
    )


def _sample(flat: Tensor, places: Tensor, rows: Tensor, size: tuple[int, int], grey: int) -> Tensor:
    """flat: (pixels of all frames, 3) uint8. places: (n, 3) first pixel, width and height of each region's frame."""
    column = [rows[:, k, None, None] for k in range(rows.shape[1])]  # (n, 1, 1) each
    us = torch.arange(size[0], dtype=rows.dtype, device=flat.device)[None, None, :]
    vs = torch.arange(size[1], dtype=rows.dtype, device=flat.device)[None, :, None]
    u, v = us.clamp(column[6], column[7]), vs.clamp(column[8], column[9])
    x = (column[0] * u + column[1] * v + column[2]).clamp(column[10], column[11])  # (n, height, width)
    y = (column[3] * u + column[4] * v + column[5]).clamp(column[12], column[13])
    left, top = x.floor(), y.floor()
    across, down = (x - left)[..., None], (y - top)[..., None]
    start, width, height = (places[:, k, None, None] for k in range(3))

    def tap(dx: int, dy: int) -> Tensor:
        """The pixels beside the samples, (n, height, width, 3); grey where there is no frame."""
        i, j = left.long() + dx, top.long() + dy
        inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
        cell = start + j.clamp(min=0).minimum(height - 1) * width + i.clamp(min=0).minimum(width - 1)
        return torch.where(inside[..., None], flat[cell].to(rows.dtype), float(grey))

    above = torch.lerp(tap(0, 0), tap(1, 0), across)
    below = torch.lerp(tap(0, 1), tap(1, 1), across)
    shown = torch.lerp(above, below, down)
    clamped = ((u != us) | (v != vs)) & (column[14] > 0)
    return torch.where(clamped[..., None], float(grey), shown).round_().to(torch.uint8)


def _sent(small: Tensor, device: torch.device) -> Tensor:
    return small.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else small.to(device)
