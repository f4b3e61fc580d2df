"""`engines.ops.peaks` in torch: finds the peaks of heatmaps on the device."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn.functional import pad

from engines.ops.peaks import BLUR_MARGIN, UDP_RANGE, blur_kernel, mirrored_taps, taylor, udp_kernel, udp_taps


def find_peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """The highest cell of each map of (n, K, H, W), first in row-major order: x, y (n, K, 2) and value (n, K).

    A map whose maximum is not above 0 has its peak at 0, 0.
    """
    width = heatmaps.shape[-1]
    values, best = heatmaps.flatten(-2).max(dim=-1)
    best = torch.where(values > 0, best, 0)
    return torch.stack([best % width, best // width], dim=-1).to(heatmaps.dtype), values


def refine_quarter(heatmaps: Tensor, peaks: Tensor) -> Tensor:
    """Move each peak a quarter of a cell towards its higher neighbour along x and y, see `engines.ops.peaks`."""
    height, width = heatmaps.shape[-2:]
    x, y = peaks[..., 0], peaks[..., 1]
    inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
    patch = _patch(heatmaps, peaks)
    slope = torch.stack([patch[..., 1, 2] - patch[..., 1, 0], patch[..., 2, 1] - patch[..., 0, 1]], dim=-1)
    return peaks + 0.25 * slope.sign() * inside[..., None]


def refine_dark(heatmaps: Tensor, peaks: Tensor) -> Tensor:
    """Move each peak to the maximum of the Taylor expansion of the logarithm, see `engines.ops.peaks`."""
    return _to_maximum(heatmaps, peaks, _patch(heatmaps, peaks).clamp(min=1e-6).log())


def refine_udp(heatmaps: Tensor, peaks: Tensor) -> Tensor:
    """The same on smoothed maps, see `engines.ops.peaks`."""
    (height, width), around = heatmaps.shape[-2:], torch.arange(-1, 2, device=heatmaps.device)
    taps = torch.from_numpy(udp_taps()).to(heatmaps.device)
    kernel = torch.from_numpy(udp_kernel()).to(heatmaps)
    x, y = peaks[..., 0].long().clamp(1, width - 2), peaks[..., 1].long().clamp(1, height - 2)
    columns, rows = (
        mirrored_taps((cells[..., None] + around)[..., None] + taps, size) for cells, size in ((x, width), (y, height))
    )  # (n, K, 3, taps)
    cells = rows[..., :, :, None, None] * width + columns[..., None, None, :, :]
    values = heatmaps.flatten(-2).gather(-1, cells.flatten(-4)).view(cells.shape)
    # Not a product of matrices, which may be computed in TF32 on a GPU.
    patch = ((values * kernel).sum(dim=-1) * kernel[:, None]).sum(dim=-2)
    return _to_maximum(heatmaps, peaks, patch.clamp(*UDP_RANGE).log())


def _to_maximum(heatmaps: Tensor, peaks: Tensor, patch: Tensor) -> Tensor:
    """Move peaks to the maximum of the expansion around the (n, K, 3, 3) logarithms."""
    height, width = heatmaps.shape[-2:]
    x, y = peaks[..., 0], peaks[..., 1]
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    across, down, determinant, concave = taylor(patch)
    good = inside & concave
    offset = torch.stack([across, down], dim=-1) / torch.where(good, determinant, 1.0)[..., None]
    return peaks + torch.where(good[..., None], offset.clamp(-1, 1), 0.0)


def blurred_peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """CPN's decoding, from the highest cell of each smoothed map towards the second, see `engines.ops.peaks`."""
    height, width = heatmaps.shape[-2:]
    maps = heatmaps.flatten(0, -3)
    highest = maps.amax(dim=(1, 2), keepdim=True)
    margin = (BLUR_MARGIN,) * 4
    scaled = pad(torch.where(highest > 0, maps / highest, 0.0), margin)
    smooth = _blurred(scaled).flatten(1)
    first = smooth.argmax(dim=1, keepdim=True)
    second = smooth.scatter(1, first, -torch.inf).argmax(dim=1, keepdim=True)
    width_padded = scaled.shape[-1]
    one, two = (torch.cat([at % width_padded, at // width_padded], dim=1).to(maps.dtype) for at in (first, second))
    apart = torch.linalg.vector_norm(two - one, dim=1, keepdim=True)
    x, y = (one - BLUR_MARGIN + 0.25 * (two - one) / apart).unbind(dim=1)
    moved = torch.stack([x.clamp(0, width - 1), y.clamp(0, height - 1)], dim=1)
    cell = moved.round().long()
    values = maps[torch.arange(len(maps), device=maps.device), cell[:, 1], cell[:, 0]]
    return (moved + 0.5).view(*heatmaps.shape[:-2], 2), values.view(heatmaps.shape[:-2])


def _patch(heatmaps: Tensor, peaks: Tensor) -> Tensor:
    """The (n, K, 3, 3) cells around each peak, shifted inwards at the edges of the map."""
    height, width = heatmaps.shape[-2:]
    x, y = peaks[..., 0].long().clamp(1, width - 2), peaks[..., 1].long().clamp(1, height - 2)
    around = torch.arange(-1, 2, device=heatmaps.device)
    rows = (y[..., None, None] + around[:, None]) * width
    cells = (rows + x[..., None, None] + around).flatten(-2)
    return heatmaps.flatten(-2).gather(-1, cells).view(*peaks.shape[:-1], 3, 3)


def _blurred(maps: Tensor) -> Tensor:
    """A Gaussian filter over (n, H, W) maps with zero padding, as products with a band matrix along each axis.

    A convolution may be computed in TF32 on a GPU, whose rounding changes the order of cells.
    """
    height, width = maps.shape[-2:]
    return _band(height, maps.device) @ maps @ _band(width, maps.device)


@functools.cache
def _band(size: int, device: torch.device) -> Tensor:
    """The filter along an axis as a (size, size) band matrix."""
    places = torch.arange(size)
    apart = places[:, None] - places + BLUR_MARGIN
    kernel = torch.from_numpy(blur_kernel())
    band = torch.where((apart >= 0) & (apart < len(kernel)), kernel[apart.clamp(0, len(kernel) - 1)], 0.0)
    return band.to(device)
