"""Operators that gather, scatter and sort by index."""

from __future__ import annotations

import torch
from torch import Tensor

from engines.runtimes.torch.operators.node import Factory, Function, GraphNode, dtype_of


def _from_front(indices: Tensor, size: int) -> Tensor:
    """Convert negative indices, which count from the end, to indices from the front."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def _gather(node: GraphNode) -> Function:
    axes = node.integers(2)
    batch_dims = int(node.attributes["batch_dims"])

    def gather(*inputs: Tensor) -> Tensor:
        x, indices = inputs[0], inputs[1]
        axis = axes(inputs)[0] % x.dim()
        indices = _from_front(indices, x.shape[axis])
        batched = batch_dims % (indices.dim() + 1) if batch_dims < 0 else batch_dims
        if batched:
            return _gather_batched(x, indices, axis, batched)
        found = x.index_select(axis, indices.reshape(-1))
        return found.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    return gather


def _gather_batched(x: Tensor, indices: Tensor, axis: int, batched: int) -> Tensor:
    lead = x.shape[:batched]
    item = axis - batched
    parts = [
        one.index_select(item, each.reshape(-1)).reshape((*one.shape[:item], *each.shape, *one.shape[item + 1 :]))
        for one, each in zip(x.flatten(0, batched - 1), indices.flatten(0, batched - 1), strict=True)
    ]
    joined = torch.stack(parts)
    return joined.reshape((*lead, *joined.shape[1:]))


def _gather_elements(node: GraphNode) -> Function:
    axis = int(node.attributes["axis"])
    return lambda x, indices: torch.gather(x, axis, _from_front(indices, x.shape[axis]))


def _gather_nd(node: GraphNode) -> Function:
    batched = int(node.attributes["batch_dims"])

    def gather(x: Tensor, indices: Tensor) -> Tensor:
        depth = indices.shape[-1]
        where = [_from_front(indices[..., n], x.shape[batched + n]) for n in range(depth)]
        lead = [
            torch.arange(side, device=x.device).reshape([-1 if d == n else 1 for d in range(indices.dim() - 1)])
            for n, side in enumerate(x.shape[:batched])
        ]
        return x[(*lead, *where)]

    return gather


def _scatter_nd(node: GraphNode) -> Function:
    if node.attributes.get("reduction", "none") != "none":
        raise ValueError("ScatterNDUpdate with a reduction is not supported")

    def scatter(x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        where = tuple(_from_front(indices[..., n], x.shape[n]) for n in range(indices.shape[-1]))
        return x.index_put(where, updates)

    return scatter


def _scatter_elements(node: GraphNode) -> Function:
    if node.attributes.get("reduction", "none") != "none":
        raise ValueError("ScatterElementsUpdate with a reduction is not supported")
    axes = node.integers(3)

    def scatter(*inputs: Tensor) -> Tensor:
        x, indices, updates = inputs[:3]
        axis = axes(inputs)[0]
        return x.scatter(axis, _from_front(indices, x.shape[axis]), updates)

    return scatter


def _scatter(node: GraphNode) -> Function:
    axes = node.integers(3)

    def scatter(*inputs: Tensor) -> Tensor:
        x, indices, updates = inputs[:3]
        axis = axes(inputs)[0] % x.dim()
        where = _from_front(indices, x.shape[axis]).reshape(-1)
        flat = updates.reshape(*x.shape[:axis], -1, *x.shape[axis + 1 :])
        return x.index_copy(axis, where, flat)

    return scatter


def _top_k(node: GraphNode) -> Function:
    counts = node.integers(1)
    axis = int(node.attributes["axis"])
    largest = str(node.attributes["mode"]).lower() == "max"
    by_index = str(node.attributes["sort"]).lower() == "index"
    dtype = dtype_of(node.attributes["index_element_type"])

    def top(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        x, count = inputs[0], counts(inputs)[0]
        if count == 1:
            best = (x.argmax if largest else x.argmin)(axis, keepdim=True)
            return x.gather(axis, best), best.to(dtype)
        # Not torch.topk, which picks any of equal values: as in the other runtimes, the first one wins.
        values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
        values, indices = values.narrow(axis, 0, count), indices.narrow(axis, 0, count)
        if by_index:
            indices, order = torch.sort(indices, dim=axis)
            values = values.gather(axis, order)
        return values, indices.to(dtype)

    return top


def _non_zero(node: GraphNode) -> Function:
    dtype = dtype_of(node.attributes["output_type"])
    return lambda x: x.nonzero().T.to(dtype)


def _one_hot(node: GraphNode) -> Function:
    depths = node.integers(1)
    axis = int(node.attributes["axis"])

    def one_hot(*inputs: Tensor) -> Tensor:
        indices, on, off = inputs[0], inputs[2], inputs[3]
        classes = torch.arange(depths(inputs)[0], device=indices.device)
        return torch.where((indices.unsqueeze(-1) == classes).movedim(-1, axis), on, off)

    return one_hot


SELECTION: dict[str, Factory] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "ScatterElementsUpdate": _scatter_elements,
    "ScatterNDUpdate": _scatter_nd,
    "ScatterUpdate": _scatter,
    "TopK": _top_k,
}
