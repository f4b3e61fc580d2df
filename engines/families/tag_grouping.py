"""Associative embedding: groups keypoints with similar tags (Newell, Huang, Deng, 2017, sections 3.2 and 3.3).

Includes the search for missing keypoints by heatmap and tag from HigherHRNet (Cheng et al., 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.ops.assignment import best_assignment
from engines.poses import Floats

Indices = NDArray[np.intp]

_STRONG = 0.05
"""Missing keypoints are first searched for in cells above this, where nearly all of them are."""


@dataclass(frozen=True, slots=True)
class GroupingOptions:
    """Options for grouping keypoints into people.

    max_people: the highest number of candidates per keypoint, and of people they are matched with. min_score: the
    lowest score of a candidate, 0..1. max_distance: the largest distance between a keypoint's tag and the mean tag of
    its person. window: a candidate is the maximum of a square of this many cells. by_score: among candidates with
    equal (rounded) distances, those with higher scores are matched first. full_is_full: with max_people reached, no
    more people are added.
    """

    max_people: int = 30
    min_score: float = 0.1
    max_distance: float = 1.0
    window: int = 5
    by_score: bool = True
    full_is_full: bool = False


def candidates(heatmaps: Floats, tags: Floats, options: GroupingOptions) -> list[Floats]:
    """For each of K keypoints, (m, 3 + T) x, y, score, tag, best first; from (K, H, W) and (K, H, W, T)."""
    around = np.ones((options.window, options.window), np.uint8)
    found = []
    for heatmap, tag in zip(heatmaps, tags, strict=True):
        cells = np.flatnonzero(heatmap > options.min_score)  # few cells, which makes the following steps cheap
        cells = cells[heatmap.ravel()[cells] == cv2.dilate(heatmap, around).ravel()[cells]]
        cells = cells[np.argsort(-heatmap.ravel()[cells], kind="stable")][: options.max_people]
        y, x = np.divmod(cells, heatmap.shape[1])
        found.append(np.column_stack([x, y, heatmap[y, x], tag[y, x]]).astype(np.float32))
    return found


def match(found: Sequence[Floats], order: Sequence[int], options: GroupingOptions) -> Floats:
    """People (P, K, 3 + T), in the order in which they were found, from `candidates`; missing keypoints are all 0.

    For each keypoint in `order`, candidates are assigned to people by the distance to their mean tags, at the lowest
    total cost. A candidate that is too far from its person begins a new one.
    """
    most = sum(len(rows) for rows in found)  # people, if each candidate begins one
    people = np.zeros((most, len(found), found[0].shape[1]), np.float32)
    sums, counts = np.zeros((most, found[0].shape[1] - 3)), np.zeros((most, 1))
    known = 0
    for keypoint in order:
        rows = found[keypoint]
        offered = min(known, options.max_people)
        if not len(rows) or (options.full_is_full and offered == options.max_people):
            continue
        owner = _owners(rows, sums[:offered] / counts[:offered], options)
        new = np.flatnonzero(owner < 0)
        owner[new] = known + np.arange(len(new))
        known += len(new)
        people[owner, keypoint] = rows
        sums[owner] += rows[:, 3:]
        counts[owner] += 1
    return people[:known]


def _owners(rows: Floats, means: NDArray[np.float64], options: GroupingOptions) -> Indices:
    """The index of the person for each of (m, 3 + T) candidates, or -1. means: (P, T) mean tags of the people."""
    distance = np.linalg.norm(rows[:, None, 3:].astype(np.float64) - means, axis=-1)
    cost = np.rint(distance) * 100 - rows[:, 2:3] if options.by_score else distance
    chosen, person = best_assignment(-cost)
    near = distance[chosen, person] < options.max_distance
    owner = np.full(len(rows), -1, np.intp)
    owner[chosen[near]] = person[near]
    return owner


def adjust(people: Floats, heatmaps: Floats) -> Floats:
    """Move each keypoint to the middle of its cell, then a quarter of a cell towards the higher neighbours."""
    person, keypoint = np.nonzero(people[..., 2] > 0)
    x, y = people[person, keypoint, :2].astype(np.intp).T
    moved = people.copy()
    moved[person, keypoint, :2] = _quarter(heatmaps, keypoint, x, y)
    return moved


def refine(people: Floats, heatmaps: Floats, tags: Floats) -> Floats:
    """Add missing keypoints: at the maximum of the heatmap minus the rounded distance to the person's mean tag."""
    has = people[..., 2] > 0
    person, keypoint = np.nonzero(has)
    x, y = people[person, keypoint, :2].astype(np.intp).T
    sums = np.zeros((len(people), tags.shape[-1]))
    np.add.at(sums, person, tags[keypoint, y, x])
    means = (sums / np.maximum(has.sum(axis=1), 1)[:, None]).astype(np.float32)
    full = people.copy()
    for kind in np.flatnonzero(~has.all(axis=0)):
        missing = np.flatnonzero(~has[:, kind])
        y, x = np.divmod(_search(heatmaps[kind].ravel(), tags[kind], means[missing]), heatmaps.shape[-1])
        score = heatmaps[kind, y, x]
        some = score > 0
        full[missing[some], kind, :2] = _quarter(heatmaps, np.full(some.sum(), kind), x[some], y[some])
        full[missing[some], kind, 2] = score[some]
    return full


def _search(heatmap: Floats, tags: Floats, means: Floats) -> Indices:
    """The indices of the (H * W) cells where heatmap minus distance is highest, for each of (m, T) mean tags.

    If a cell's result is above _STRONG, cells whose heatmap is below that cannot exceed it, so they are searched only
    if no result is.
    """
    flat = tags.reshape(len(heatmap), -1)
    strong = np.flatnonzero(heatmap > _STRONG)
    cells = np.zeros(len(means), np.intp)
    weak = np.ones(len(means), bool)
    if len(strong):
        values = heatmap[strong] - np.rint(_distances(flat[strong], means))
        best = values.argmax(axis=1)
        cells = strong[best]
        weak = values[np.arange(len(means)), best] <= _STRONG
    for n in np.flatnonzero(weak):
        cells[n] = np.argmax(heatmap - np.rint(_distances(flat, means[n : n + 1])[0]))
    return cells


def _distances(tags: Floats, means: Floats) -> Floats:
    """(m, cells) Euclidean distances between (cells, T) and (m, T)."""
    distances: Floats
    if tags.shape[1] == 1:
        distances = np.abs(tags[:, 0] - means)
    else:
        squares = [np.square(tags[:, t] - means[:, t : t + 1]) for t in range(tags.shape[1])]
        distances = np.sqrt(np.sum(squares, axis=0))
    return distances


def _quarter(heatmaps: Floats, keypoint: Indices, x: Indices, y: Indices) -> Floats:
    """The centres of cells, moved by a quarter of a cell to the higher side (to the left or top if equal)."""
    height, width = heatmaps.shape[-2:]
    right = heatmaps[keypoint, y, np.minimum(x + 1, width - 1)] > heatmaps[keypoint, y, np.maximum(x - 1, 0)]
    below = heatmaps[keypoint, np.minimum(y + 1, height - 1), x] > heatmaps[keypoint, np.maximum(y - 1, 0), x]
    moved = np.stack([x + np.where(right, 0.75, 0.25), y + np.where(below, 0.75, 0.25)], axis=-1)
    return moved.astype(np.float32)
