"""The operator NonMaxSuppression, whose output has one row per box kept."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engines.runtimes.torch.operators.node import Factory, Function, GraphNode, dtype_of


def _non_max_suppression(node: GraphNode) -> Function:
    """Boxes (b, n, 4), scores (b, classes, n), a limit per class and two thresholds -> rows of batch, class, box."""
    if len(node.known) > 5 and node.scalar(5) != 0:
        raise ValueError("NonMaxSuppression with a soft sigma is not supported")
    limits = node.integers(2, default=(0,))
    centred = str(node.attributes["box_encoding"]).lower() == "center"
    by_score = bool(node.attributes["sort_result_descending"])
    dtype = dtype_of(node.attributes["output_type"])

    def suppress(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores = inputs[0].float(), inputs[1].float()
        limit = limits(inputs)[0]
        max_overlap = float(inputs[3]) if len(inputs) > 3 else 0.0
        min_score = float(inputs[4]) if len(inputs) > 4 else float("-inf")
        corners = _corners(boxes, centred)
        rows, kept_scores = [], []
        for image in range(len(boxes)):
            for label in range(scores.shape[1]):
                kept = _kept(corners[image], scores[image, label], limit, max_overlap, min_score)
                where = kept.new_tensor([image, label]).expand(len(kept), 2)
                rows.append(torch.cat([where, kept[:, None]], 1))
                kept_scores.append(scores[image, label, kept])
        selected, values = torch.cat(rows), torch.cat(kept_scores)
        if by_score:
            order = torch.argsort(values, descending=True, stable=True)
            selected, values = selected[order], values[order]
        described = torch.cat([selected[:, :2].to(values.dtype), values[:, None]], 1)
        return selected.to(dtype), described, torch.tensor([len(selected)], dtype=dtype, device=boxes.device)

    return suppress


def _corners(boxes: Tensor, centred: bool) -> Tensor:
    """Boxes as x1, y1, x2, y2, the smaller coordinates first."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        first, second = first - second / 2, first + second / 2
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _kept(corners: Tensor, scores: Tensor, limit: int, max_overlap: float, min_score: float) -> Tensor:
    """The indices of the boxes of one class that are kept, best first, at most `limit`."""
    candidates = torch.nonzero(scores > min_score).squeeze(1)
    candidates = candidates[torch.argsort(scores[candidates], descending=True, stable=True)]
    # This loop over boxes is slow on a device; the host takes microseconds per box.
    chosen = _greedy(corners[candidates].cpu().numpy(), limit, max_overlap)
    return candidates[torch.tensor(chosen, dtype=torch.long, device=candidates.device)]


def _greedy(boxes: NDArray[np.float32], limit: int, max_overlap: float) -> list[int]:
    """The boxes that overlap no kept box before them by more than `max_overlap`, at most `limit`."""
    kept: list[int] = []
    left = np.arange(len(boxes))
    with np.errstate(over="ignore", invalid="ignore"):  # infinite boxes overlap nothing
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        while len(left) and len(kept) < limit:
            first, left = left[0], left[1:]
            kept.append(int(first))
            others = boxes[left]
            sides = np.minimum(others[:, 2:], boxes[first, 2:]) - np.maximum(others[:, :2], boxes[first, :2])
            shared = sides.clip(0).prod(1)
            left = left[~(shared > max_overlap * (areas[left] + areas[first] - shared))]
    return kept


SUPPRESSION: dict[str, Factory] = {"NonMaxSuppression": _non_max_suppression}
