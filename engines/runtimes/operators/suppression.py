"""NonMaxSuppression, whose output has as many rows as there are boxes left."""

from __future__ import annotations

import torch
from torch import Tensor

from engines.runtimes.operators.node import Factory, Function, Node, dtype_of

_BLOCK = 1024
"""How many boxes are compared with all others at once, which bounds the memory."""


def _non_max_suppression(node: Node) -> Function:
    """Boxes (b, n, 4), scores (b, classes, n), the most boxes a class, two thresholds -> rows of batch, class, box."""
    if len(node.known) > 5 and node.scalar(5) != 0:
        raise ValueError("NonMaxSuppression with a soft sigma is not supported")
    most = node.whole(2, default=(0,))
    centred = str(node.attributes["box_encoding"]).lower() == "center"
    by_score = bool(node.attributes["sort_result_descending"])
    dtype = dtype_of(node.attributes["output_type"])

    def suppress(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores = inputs[0].float(), inputs[1].float()
        limit = most(inputs)[0]
        most_overlap = float(inputs[3]) if len(inputs) > 3 else 0.0
        least_score = float(inputs[4]) if len(inputs) > 4 else float("-inf")
        corners = _corners(boxes, centred)
        rows, kept_scores = [], []
        for image in range(len(boxes)):
            for label in range(scores.shape[1]):
                kept = _kept(corners[image], scores[image, label], limit, most_overlap, least_score)
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
    """Two opposite corners, the smaller coordinates first."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        first, second = first - second / 2, first + second / 2
    return torch.cat([torch.minimum(first, second), torch.maximum(first, second)], -1)


def _kept(corners: Tensor, scores: Tensor, limit: int, most_overlap: float, least_score: float) -> Tensor:
    """The indices of the boxes of one class that stay, best first, at most `limit` of them."""
    candidates = torch.nonzero(scores > least_score).squeeze(1)
    order = torch.argsort(scores[candidates], descending=True, stable=True)
    candidates = candidates[order]
    overlaps = _overlaps_better(corners[candidates], most_overlap)
    # A box falls to a better one that itself stays. Repeating that settles from the best box on, one link of the
    # longest chain of overlaps a round: a handful of rounds, each a product of a matrix, where a loop takes one a box.
    stays = torch.ones(len(candidates), dtype=torch.bool, device=corners.device)
    while True:
        now = ~(overlaps & stays[:, None]).any(0)
        if torch.equal(now, stays):
            return candidates[stays][:limit]
        stays = now


def _overlaps_better(boxes: Tensor, most: float) -> Tensor:
    """(n, n): whether the box of the row comes before that of the column and overlaps it by more than `most`."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    found = torch.empty(len(boxes), len(boxes), dtype=torch.bool, device=boxes.device)
    for start in range(0, len(boxes), _BLOCK):
        some = slice(start, start + _BLOCK)
        sides = torch.minimum(boxes[some, None, 2:], boxes[None, :, 2:]) - torch.maximum(
            boxes[some, None, :2], boxes[None, :, :2]
        )
        shared = sides.clamp_min(0).prod(2)
        union = areas[some, None] + areas[None] - shared
        found[some] = shared > most * union
    return found.triu(1)


SUPPRESSION: dict[str, Factory] = {"NonMaxSuppression": _non_max_suppression}
