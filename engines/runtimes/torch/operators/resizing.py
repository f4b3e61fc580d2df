"""The operator Interpolate: resizing, in the modes of ONNX and OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from engines.runtimes.torch.operators.node import Factory, Function, GraphNode

Coordinates = NDArray[np.float64]
"""The position along a source axis that each index of the result axis is read from."""

_ROUNDINGS: dict[str, Callable[[Coordinates], Coordinates]] = {
    "round_prefer_floor": lambda at: np.ceil(at - 0.5),
    "round_prefer_ceil": lambda at: np.floor(at + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
    "simple": np.floor,  # where an axis grows; ceil where it shrinks
}
_ALIGN_CORNERS = {"half_pixel": False, "pytorch_half_pixel": False, "align_corners": True}
"""Coordinate modes that torch supports, with the value of align_corners."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """How one axis is resized. scale: result over source size, as in the graph, where rounding can make it inexact."""

    axis: int
    size: int
    result: int
    scale: float

    @property
    def exact(self) -> bool:
        return abs(self.result / self.size - self.scale) < 1e-6

    def positions(self, coordinates: str) -> Coordinates:
        at = np.arange(self.result, dtype=np.float64)
        if coordinates == "asymmetric":
            return at / self.scale
        if coordinates == "tf_half_pixel_for_nn":
            return (at + 0.5) / self.scale
        if coordinates == "align_corners":
            return at * (self.size - 1) / max(self.result - 1, 1)
        if coordinates == "pytorch_half_pixel" and self.result == 1:
            return at
        return (at + 0.5) / self.scale - 0.5

    def nearest(self, coordinates: str, rounding: str) -> NDArray[np.int64]:
        rule = np.ceil if rounding == "simple" and self.scale < 1 else _ROUNDINGS[rounding]
        return np.clip(rule(self.positions(coordinates)), 0, self.size - 1).astype(np.int64)


class _SelectIndices:
    """Nearest-neighbour resizing of one axis."""

    def __init__(self, axis: int, indices: NDArray[np.int64]) -> None:
        self._axis = axis
        self._indices = _PerDevice(torch.from_numpy(indices))

    def __call__(self, x: Tensor) -> Tensor:
        return x.index_select(self._axis, self._indices.on(x.device))


class _Lerp:
    """Linear resizing of one axis."""

    def __init__(self, axis: int, positions: Coordinates, size: int) -> None:
        at = np.clip(positions, 0, size - 1)
        before = np.floor(at).astype(np.int64)
        self._axis = axis
        self._before = _PerDevice(torch.from_numpy(before))
        self._after = _PerDevice(torch.from_numpy(np.minimum(before + 1, size - 1)))
        self._weight = _PerDevice(torch.from_numpy((at - before).astype(np.float32)))

    def __call__(self, x: Tensor) -> Tensor:
        before = x.index_select(self._axis, self._before.on(x.device))
        after = x.index_select(self._axis, self._after.on(x.device))
        weight = self._weight.on(x.device).to(x.dtype).reshape([-1] + [1] * (x.dim() - self._axis - 1))
        return torch.lerp(before, after, weight)


class _PerDevice:
    """A constant, copied to each device at first use there, which is before a CUDA graph is captured."""

    def __init__(self, tensor: Tensor) -> None:
        self._copies = {tensor.device: tensor}
        self._first = tensor

    def on(self, device: torch.device) -> Tensor:
        if device not in self._copies:
            self._copies[device] = self._first.to(device)
        return self._copies[device]


def _interpolate(node: GraphNode) -> Function:
    how: dict[str, Any] = dict(node.attributes)
    mode, coordinates = str(how["mode"]).lower(), str(how["coordinate_transformation_mode"]).lower()
    rounding = str(how["nearest_mode"]).lower()
    if mode not in ("nearest", "linear", "linear_onnx", "cubic"):
        raise ValueError(f"Interpolate of mode {mode} is not supported")
    if any(how["pads_begin"]) or any(how["pads_end"]) or how["antialias"]:
        raise ValueError("Interpolate with padding or antialiasing is not supported")
    changes = _changes(node)

    @lru_cache(maxsize=32)  # one entry per input shape, of which there is nearly always one
    def resizer(axes: tuple[_Axis, ...], image: bool) -> Callable[[Tensor], Tensor]:
        if mode == "nearest":
            picks = [(each, each.nearest(coordinates, rounding)) for each in axes]
            if image and all(np.array_equal(p, np.arange(each.result) * each.size // each.result) for each, p in picks):
                return _by_torch(axes, mode="nearest")
            return _one_by_one([_SelectIndices(each.axis, indices) for each, indices in picks])
        if image and coordinates in _ALIGN_CORNERS and all(each.exact for each in axes):
            name = "bicubic" if mode == "cubic" else "bilinear"
            return _by_torch(axes, mode=name, align_corners=_ALIGN_CORNERS[coordinates])
        if mode == "cubic":
            raise ValueError(f"cubic Interpolate at {coordinates} is not supported")
        return _one_by_one([_Lerp(each.axis, each.positions(coordinates), each.size) for each in axes])

    def interpolate(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        axes = changes(inputs)
        return resizer(axes, x.dim() == 4 and all(each.axis >= 2 for each in axes))(x) if axes else x

    return interpolate


def _changes(node: GraphNode) -> Callable[[tuple[Tensor, ...]], tuple[_Axis, ...]]:
    """A function from the inputs to the axes that change. Inputs: sizes or scales (both before opset 11), then axes."""
    by_scale = str(node.attributes["shape_calculation_mode"]).lower() == "scales"
    older = node.opset < 11
    axes_at = 3 if older else 2
    numbers = node.known[2 if older and by_scale else 1]
    if numbers is None and by_scale:
        raise ValueError("Interpolate wants its scales as a constant")
    scales = [float(scale) for scale in numbers.tolist()] if by_scale and numbers is not None else []
    sizes = node.integers(1)
    listed = node.integers(axes_at) if len(node.known) > axes_at else None

    def changes(inputs: tuple[Tensor, ...]) -> tuple[_Axis, ...]:
        x = inputs[0]
        axes: Sequence[int] = range(x.dim()) if listed is None else listed(inputs)
        if by_scale:
            found = [_Axis(n, x.shape[n], int(x.shape[n] * s + 1e-6), s) for n, s in zip(axes, scales, strict=True)]
        else:
            wanted = zip(axes, sizes(inputs), strict=True)
            found = [_Axis(n, x.shape[n], side, side / x.shape[n]) for n, side in wanted]
        return tuple(each for each in found if each.result != each.size or each.scale != 1)

    return changes


def _by_torch(axes: Sequence[_Axis], **options: Any) -> Callable[[Tensor], Tensor]:
    sides = {each.axis: each.result for each in axes}
    return lambda x: F.interpolate(x, [sides.get(n, x.shape[n]) for n in (2, 3)], **options)


def _one_by_one(steps: Sequence[Callable[[Tensor], Tensor]]) -> Callable[[Tensor], Tensor]:
    def resize(x: Tensor) -> Tensor:
        for step in steps:
            x = step(x)
        return x

    return resize


RESIZING: dict[str, Factory] = {"Interpolate": _interpolate}
