"""Part affinity fields: matches keypoints into limbs, and limbs into people.

Cao, Simon, Wei, Sheikh, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields", 2017: sections 2.3
(the line integral, equation 10) and 2.4 (the bipartite matching, equations 12 to 14).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from engines.ops.assignment import best_assignment
from engines.poses import Floats

_SAMPLES = 10  # along a limb
_ALONG = 0.05  # the lowest component of the field along the limb for a sample to support it
_MOST = 0.8  # share of the samples that must support a limb
_LONG = 0.5  # of the field's height; longer limbs get a penalty

Person = dict[int, int]
"""The index of the candidate for each keypoint of a person."""


def peaks(heatmaps: Floats, least: float, most: int) -> list[Floats]:
    """The best `most` peaks above `least` of each of (H, W, K) heatmaps: (m, 3) x, y and score, best first.

    A peak is the highest of its 3 x 3 neighbourhood, unless all are equal; x and y are at the maximum of the parabolas
    through it and its neighbours.
    """
    highest = cv2.dilate(heatmaps, np.ones((3, 3), np.uint8)).reshape(heatmaps.shape)
    cell = np.flatnonzero(heatmaps > least)
    cell = cell[heatmaps.ravel()[cell] >= highest.ravel()[cell]]
    cell = cell[np.argsort(-heatmaps.ravel()[cell], kind="stable")]
    y, x, kind = np.unravel_index(cell, heatmaps.shape)
    around = np.arange(-1, 2)
    ys = (y[:, None] + around).clip(0, heatmaps.shape[0] - 1)
    xs = (x[:, None] + around).clip(0, heatmaps.shape[1] - 1)
    patch = heatmaps[ys[:, :, None], xs[:, None], kind[:, None, None]]  # (n, 3, 3)
    score = patch[:, 1, 1]
    moved = [x + _vertex(*patch[:, 1].T), y + _vertex(*patch[:, :, 1].T)]
    rows = np.column_stack([*moved, score]).astype(np.float32)
    real = score > patch.min(axis=(1, 2))
    return [rows[real & (kind == k)][:most] for k in range(heatmaps.shape[2])]


def _vertex(before: Floats, here: Floats, after: Floats) -> Floats:
    """The position of the maximum of the parabola through values at -1, 0 and 1, whose middle is the highest."""
    bend = 2 * here - before - after
    vertex: Floats = 0.5 * np.divide(after - before, bend, out=np.zeros_like(bend), where=bend > 0)
    return vertex


def limb_scores(field: Floats, starts: Floats, ends: Floats) -> Floats:
    """The support of a field for a limb between each of (m, 2) starts and (n, 2) ends, x, y in its cells: (m, n).

    field: (H, W, 2) x, y. The score is the mean of its component along the limb, minus a penalty for long limbs; 0 if
    too few samples along the limb support it.
    """
    if not len(starts) or not len(ends):
        return np.zeros((len(starts), len(ends)), np.float32)
    dx, dy = (ends[:, axis] - starts[:, axis, None] for axis in (0, 1))  # (m, n)
    length = np.hypot(dx, dy).clip(min=np.float32(1e-6))
    steps = np.linspace(0, 1, _SAMPLES, dtype=np.float32)
    xs, ys = (starts[:, axis, None, None] + way[..., None] * steps for axis, way in ((0, dx), (1, dy)))
    rows = (len(starts), len(ends) * _SAMPLES)
    sampled = cv2.remap(field, xs.reshape(rows), ys.reshape(rows), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    sampled = sampled.reshape(*length.shape, _SAMPLES, 2)
    along = sampled[..., 0] * (dx / length)[..., None] + sampled[..., 1] * (dy / length)[..., None]
    score = along.mean(axis=-1) + np.minimum(_LONG * len(field) / length - 1, 0)
    agreed = (along > _ALONG).mean(axis=-1) >= _MOST
    scores: Floats = np.where(agreed & (score > 0), score, 0).astype(np.float32)
    return scores


def matches(scores: Floats) -> list[tuple[int, int]]:
    """The one-to-one pairs with the highest sum of (m, n) scores, without scores of 0, best first."""
    rows, columns = np.flatnonzero(scores.any(axis=1)), np.flatnonzero(scores.any(axis=0))
    start, end = best_assignment(scores[np.ix_(rows, columns)])
    start, end = rows[start], columns[end]
    worth = scores[start, end]
    order = [n for n in np.argsort(-worth, kind="stable") if worth[n] > 0]
    return [(int(start[n]), int(end[n])) for n in order]


def assemble(limbs: Sequence[tuple[int, int]], pairs: Sequence[Sequence[tuple[int, int]]]) -> list[Person]:
    """People, from the pairs of candidates of each of `limbs`; redundant limbs come last.

    A limb between two partial people merges them, unless they have a keypoint in common.
    """
    owner: dict[tuple[int, int], Person] = {}
    for (first, second), joined in zip(limbs, pairs, strict=True):
        for start, end in joined:
            one = owner.setdefault((first, start), {first: start})
            other = owner.setdefault((second, end), {second: end})
            if one is other or one.keys() & other.keys():
                continue
            one |= other
            for keypoint, candidate in other.items():
                owner[keypoint, candidate] = one
    people = {id(person): person for person in owner.values()}
    return list(people.values())
