"""Operators that rearrange values without changing them: reshape, slice, pad, split, tile."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name

from engines.runtimes.torch.operators.node import Factory, Function, GraphNode, dtype_of


def _reshape(node: GraphNode) -> Function:
    pattern = node.integers(1)
    zero_copies = bool(node.attributes["special_zero"])

    def reshape(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        sides = [x.shape[n] if side == 0 and zero_copies else side for n, side in enumerate(pattern(inputs))]
        return x.reshape(sides)

    return reshape


def _squeeze(node: GraphNode) -> Function:
    axes = node.integers(1, default=())

    def squeeze(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        listed = axes(inputs) or [n for n, side in enumerate(x.shape) if side == 1]
        gone = {axis % x.dim() for axis in listed if x.shape[axis] == 1}
        return x.reshape([side for n, side in enumerate(x.shape) if n not in gone])

    return squeeze


def _unsqueeze(node: GraphNode) -> Function:
    axes = node.integers(1)

    def unsqueeze(*inputs: Tensor) -> Tensor:
        x, listed = inputs[0], axes(inputs)
        dims = x.dim() + len(listed)
        for axis in sorted(axis % dims for axis in listed):
            x = x.unsqueeze(axis)
        return x

    return unsqueeze


def _transpose(node: GraphNode) -> Function:
    order = node.integers(1)

    def transpose(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        return x.permute(order(inputs) or list(range(x.dim()))[::-1])

    return transpose


def _concat(node: GraphNode) -> Function:
    axis = int(node.attributes["axis"])
    return lambda *parts: torch.cat(parts, axis)


def _split(node: GraphNode) -> Function:
    axis = node.integers(1)
    count = int(node.attributes["num_splits"])

    def split(*inputs: Tensor) -> tuple[Tensor, ...]:
        return torch.tensor_split(inputs[0], count, axis(inputs)[0])

    return split


def _variadic_split(node: GraphNode) -> Function:
    axis, lengths = node.integers(1), node.integers(2)

    def split(*inputs: Tensor) -> tuple[Tensor, ...]:
        x, along, sizes = inputs[0], axis(inputs)[0], lengths(inputs)
        rest = x.shape[along] - sum(size for size in sizes if size >= 0)
        return torch.split(x, [rest if size < 0 else size for size in sizes], along)

    return split


def _cut(x: Tensor, axis: int, begin: int | None, end: int | None, step: int) -> Tensor:
    """`x[begin:end:step]` along `axis`, with numpy's negative steps, which torch does not support."""
    start, stop, step = slice(begin, end, step).indices(x.shape[axis])
    if step > 0:
        return x[(*[slice(None)] * axis, slice(start, max(stop, start), step))]
    return x.index_select(axis, torch.arange(start, stop, step, device=x.device))


def _slice(node: GraphNode) -> Function:
    begins, ends, steps = node.integers(1), node.integers(2), node.integers(3)
    axes = node.integers(4, default=()) if len(node.known) > 4 else None

    def cut(*inputs: Tensor) -> Tensor:
        x, starts = inputs[0], begins(inputs)
        along = range(len(starts)) if axes is None else axes(inputs)
        for axis, begin, end, step in zip(along, starts, ends(inputs), steps(inputs), strict=True):
            x = _cut(x, axis % x.dim(), begin, end, step)
        return x

    return cut


def _strided_slice(node: GraphNode) -> Function:
    begins, ends = node.integers(1), node.integers(2)
    steps = node.integers(3, default=())
    marks = {
        name: list(node.attributes[f"{name}_mask"]) for name in ("begin", "end", "new_axis", "shrink_axis", "ellipsis")
    }

    def cut(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        starts, stops, strides = begins(inputs), ends(inputs), steps(inputs)
        axis = 0
        for n, (begin, end) in enumerate(zip(starts, stops, strict=True)):
            if _marked(marks["ellipsis"], n):
                new = sum(_marked(marks["new_axis"], later) for later in range(n + 1, len(starts)))
                axis = x.dim() - (len(starts) - n - 1 - new)
            elif _marked(marks["new_axis"], n):
                x, axis = x.unsqueeze(axis), axis + 1
            elif _marked(marks["shrink_axis"], n):
                x = x.select(axis, begin)
            else:
                first = None if _marked(marks["begin"], n) else begin
                last = None if _marked(marks["end"], n) else end
                x, axis = _cut(x, axis, first, last, strides[n] if strides else 1), axis + 1
        return x

    return cut


def _marked(mask: Sequence[int], n: int) -> bool:
    return n < len(mask) and bool(mask[n])


def _tile(node: GraphNode) -> Function:
    repeats = node.integers(1)
    return lambda *inputs: torch.tile(inputs[0], repeats(inputs))


def _broadcast(node: GraphNode) -> Function:
    shape = node.integers(1)
    axes = node.integers(2, default=())
    mode = str(node.attributes["mode"]).lower()
    if mode not in ("numpy", "bidirectional", "explicit"):
        raise ValueError(f"Broadcast of mode {mode} is not supported")

    def broadcast(*inputs: Tensor) -> Tensor:
        x, sides = inputs[0], shape(inputs)
        if mode == "bidirectional":
            return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(sides)))
        if mode == "explicit":
            placed = [1] * len(sides)
            for axis, side in zip(axes(inputs), x.shape, strict=True):
                placed[axis] = side
            x = x.reshape(placed)
        return x.expand(sides)

    return broadcast


_PADDING = {"constant": "constant", "edge": "replicate", "reflect": "reflect"}


def _pad(node: GraphNode) -> Function:
    begins, ends = node.integers(1), node.integers(2)
    mode = str(node.attributes["pad_mode"]).lower()
    if mode not in _PADDING:
        raise ValueError(f"Pad of mode {mode} is not supported")
    value = node.scalar(3) if mode == "constant" and len(node.known) > 3 else 0.0

    def pad(*inputs: Tensor) -> Tensor:
        x = inputs[0]
        sizes = [size for pair in zip(begins(inputs)[::-1], ends(inputs)[::-1], strict=True) for size in pair]
        if mode == "constant":
            return F.pad(x, sizes, value=value)
        while sizes and sizes[-2:] == [0, 0]:
            sizes = sizes[:-2]
        missing_dims = (
            len(sizes) // 2 + 2 - x.dim()
        )  # torch requires batch and channel dimensions before the padded ones
        padded = F.pad(x[(None,) * max(missing_dims, 0)], sizes, mode=_PADDING[mode]) if sizes else x
        return padded.reshape(padded.shape[padded.dim() - x.dim() :])

    return pad


def _shape_of(node: GraphNode) -> Function:
    dtype = dtype_of(node.attributes.get("output_type", "i64"))
    return lambda x: torch.tensor(x.shape, dtype=dtype, device=x.device)


def _range(node: GraphNode) -> Function:
    dtype = dtype_of(node.attributes["output_type"])

    def count(start: Tensor, stop: Tensor, step: Tensor) -> Tensor:
        first, last, by = start.item(), stop.item(), step.item()
        steps = torch.arange(max(math.ceil((last - first) / by), 0), device=start.device)
        return (first + steps * by).to(dtype)

    return count


def _depth_to_space(node: GraphNode) -> Function:
    block = int(node.attributes["block_size"])
    blocks_first = node.attributes["mode"] == "blocks_first"

    def depth_to_space(x: Tensor) -> Tensor:
        if not blocks_first:
            return F.pixel_shuffle(x, block)
        n, c, h, w = x.shape
        cells = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
        return cells.reshape(n, c // block**2, h * block, w * block)

    return depth_to_space


def _space_to_depth(node: GraphNode) -> Function:
    block = int(node.attributes["block_size"])
    blocks_first = node.attributes["mode"] == "blocks_first"

    def space_to_depth(x: Tensor) -> Tensor:
        if not blocks_first:
            return F.pixel_unshuffle(x, block)
        n, c, h, w = x.shape
        cells = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
        return cells.reshape(n, c * block**2, h // block, w // block)

    return space_to_depth


SHAPES: dict[str, Factory] = {
    "Broadcast": _broadcast,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "ShapeOf": _shape_of,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "VariadicSplit": _variadic_split,
}
