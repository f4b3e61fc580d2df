"""Operators that slide a window over an image: convolution and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from engines.runtimes.torch.operators.node import Factory, Function, GraphNode


def _as_matrix_units(convolve: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Compute fp16 on the CPU as GPUs do: sum in fp32 and round only the result.

    Few CPUs support fp16, and torch's own fallback takes a hundred times as long.
    """

    def convolution(x: Tensor, weights: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        if x.dtype is not torch.float16 or x.device.type != "cpu":
            return convolve(x, weights, bias, *rest)
        return convolve(x.float(), weights.float(), None if bias is None else bias.float(), *rest).to(x.dtype)

    return convolution


_CONVOLUTIONS = {n: _as_matrix_units(each) for n, each in ((1, F.conv1d), (2, F.conv2d), (3, F.conv3d))}
_TRANSPOSED = {
    n: _as_matrix_units(each) for n, each in ((1, F.conv_transpose1d), (2, F.conv_transpose2d), (3, F.conv_transpose3d))
}
_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class _Padding:
    """The padding of an operator at the beginning and end of each axis."""

    def __init__(self, node: GraphNode) -> None:
        self._auto = str(node.attributes["auto_pad"]).lower()
        self._begins = [int(pad) for pad in node.attributes["pads_begin"]]
        self._ends = [int(pad) for pad in node.attributes["pads_end"]]

    def of(
        self, sides: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """The padding for images with these sides: explicit, or TensorFlow's SAME or VALID."""
        if self._auto == "valid":
            return [0] * len(sides), [0] * len(sides)
        if not self._auto.startswith("same"):
            return self._begins, self._ends
        begins, ends = [], []
        for side, size, stride, dilation in zip(sides, kernel, strides, dilations, strict=True):
            total = max((math.ceil(side / stride) - 1) * stride + (size - 1) * dilation + 1 - side, 0)
            less, more = total // 2, total - total // 2
            begins.append(more if self._auto == "same_lower" else less)
            ends.append(less if self._auto == "same_lower" else more)
        return begins, ends


def _padded(x: Tensor, begins: Sequence[int], ends: Sequence[int], value: float = 0.0) -> Tensor:
    sizes = [size for pair in zip(begins[::-1], ends[::-1], strict=True) for size in pair]
    return F.pad(x, sizes, value=value)


def _convolution(node: GraphNode) -> Function:
    strides, dilations = list(node.attributes["strides"]), list(node.attributes["dilations"])
    groups = int(node.attributes.get("groups", 1))
    padding = _Padding(node)
    convolve = _CONVOLUTIONS[len(strides)]

    def convolution(x: Tensor, weights: Tensor, bias: Tensor | None = None) -> Tensor:
        begins, ends = padding.of(x.shape[2:], weights.shape[2:], strides, dilations)
        if begins != ends:
            x, begins = _padded(x, begins, ends), [0] * len(strides)
        return convolve(x, weights, bias, strides, begins, dilations, groups)

    return convolution


def _transposed(node: GraphNode) -> Function:
    """Weights are (in, out / groups, ...); input 2, if present, is the size of the output."""
    strides, dilations = list(node.attributes["strides"]), list(node.attributes["dilations"])
    extra = [int(pad) for pad in node.attributes["output_padding"]]
    groups = int(node.attributes.get("groups", 1))
    begins, ends = list(node.attributes["pads_begin"]), list(node.attributes["pads_end"])
    more_before = str(node.attributes["auto_pad"]).lower() == "same_upper"
    wanted = node.integers(2, default=()) if len(node.known) > 2 else None
    convolve = _TRANSPOSED[len(strides)]

    def convolution(*inputs: Tensor) -> Tensor:
        x, weights = inputs[:2]
        if wanted is None and begins == ends:
            return convolve(x, weights, None, strides, begins, extra, groups, dilations)
        full = convolve(x, weights, None, strides, 0, 0, groups, dilations)
        sizes = [side + more for side, more in zip(full.shape[2:], extra, strict=True)]
        if wanted is None:
            first = begins
            sides = [size - a - b for size, a, b in zip(sizes, begins, ends, strict=True)]
        else:
            sides = wanted(inputs)
            over = [size - side for size, side in zip(sizes, sides, strict=True)]
            first = [n - n // 2 if more_before else n // 2 for n in over]
        full = _padded(full, [0] * len(extra), extra)
        return full[(slice(None), slice(None), *(slice(a, a + side) for a, side in zip(first, sides, strict=True)))]

    return convolution


def _max_pool(node: GraphNode) -> Function:
    kernel, strides = list(node.attributes["kernel"]), list(node.attributes["strides"])
    dilations = list(node.attributes.get("dilations", [1] * len(kernel)))
    ceil = str(node.attributes["rounding_type"]).lower().startswith("ceil")
    padding = _Padding(node)
    pool = _MAX_POOLS[len(kernel)]

    def max_pool(x: Tensor) -> Tensor:
        begins, ends = padding.of(x.shape[2:], kernel, strides, dilations)
        if begins != ends or any(2 * pad > size for pad, size in zip(begins, kernel, strict=True)):
            x, begins = _padded(x, begins, ends, -math.inf), [0] * len(kernel)
        return pool(x, kernel, strides, begins, dilations, ceil)

    return max_pool


def _avg_pool(node: GraphNode) -> Function:
    kernel, strides = list(node.attributes["kernel"]), list(node.attributes["strides"])
    exclude = bool(node.attributes["exclude-pad"])
    area = math.prod(kernel)
    ceil = str(node.attributes["rounding_type"]).lower().startswith("ceil")
    padding = _Padding(node)

    def avg_pool(x: Tensor) -> Tensor:
        begins, ends = padding.of(x.shape[2:], kernel, strides, [1] * len(kernel))
        if begins != ends or any(2 * pad > size for pad, size in zip(begins, kernel, strict=True)):
            inside = _padded(torch.ones_like(x[:1, :1]), begins, ends)
            total = F.avg_pool2d(_padded(x, begins, ends), kernel, strides, 0, ceil, divisor_override=1)
            return total / (F.avg_pool2d(inside, kernel, strides, 0, ceil, divisor_override=1) if exclude else area)
        return F.avg_pool2d(x, kernel, strides, begins, ceil, False, None if exclude else area)

    return avg_pool


WINDOWS: dict[str, Factory] = {
    "AvgPool": _avg_pool,
    "Convolution": _convolution,
    "ConvolutionBackpropData": _transposed,
    "MaxPool": _max_pool,
}
