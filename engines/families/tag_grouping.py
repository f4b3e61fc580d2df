"""Associative embedding: keypoints of the same tag are one person (Newell, Huang, Deng, 2017, sections 3.2 and 3.3).

With what HigherHRNet (Cheng et al., 2020) does to it: the search for what is missing, by heatmap and tag.
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
"""A missing keypoint is first looked for where heatmaps exceed this, which is nearly always where it is."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """How keypoints become people.

    max_people: as many keypoints of a kind are looked at, and as many people are offered them. min_score: of a
    keypoint to begin with, 0..1. max_distance: between a keypoint's tag and the mean of its person's. window: cells
    in which a keypoint is the highest. by_score: among keypoints whose tags are equally near (rounded), the surer one
    has the choice. full_is_full: once there are max_people, nobody else may come up.
    """

    max_people: int = 30
    min_score: float = 0.1
    max_distance: float = 1.0
    window: int = 5
    by_score: bool = True
    full_is_full: bool = False


def candidates(heatmaps: Floats, tags: Floats, how: Grouping) -> list[Floats]:
    """For each of K keypoints its (m, 3 + T) x, y, score and tag, best first; of (K, H, W) and (K, H, W, T)."""
    around = np.ones((how.window, how.window), np.uint8)
    found = []
    for heatmap, tag in zip(heatmaps, tags, strict=True):
        cells = np.flatnonzero(heatmap > how.min_score)  # few, which makes what follows cheap
        cells = cells[heatmap.ravel()[cells] == cv2.dilate(heatmap, around).ravel()[cells]]
        cells = cells[np.argsort(-heatmap.ravel()[cells], kind="stable")][: how.max_people]
        y, x = np.divmod(cells, heatmap.shape[1])
        found.append(np.column_stack([x, y, heatmap[y, x], tag[y, x]]).astype(np.float32))
    return found


def match(found: Sequence[Floats], order: Sequence[int], how: Grouping) -> Floats:
    """People (P, K, 3 + T), in the order in which they came up, from `candidates`; what is missing is all 0.

    Keypoint after keypoint, in `order`, the candidates are assigned to the people whose mean tags are nearest, at the
    least cost for all together; a candidate that is far from its person begins another.
    """
    most = sum(len(rows) for rows in found)  # people: each candidate one of its own
    people = np.zeros((most, len(found), found[0].shape[1]), np.float32)
    sums, counts = np.zeros((most, found[0].shape[1] - 3)), np.zeros((most, 1))
    known = 0
    for keypoint in order:
        rows = found[keypoint]
        offered = min(known, how.max_people)
        if not len(rows) or (how.full_is_full and offered == how.max_people):
            continue
        owner = _owners(rows, sums[:offered] / counts[:offered], how)
        new = np.flatnonzero(owner < 0)
        owner[new] = known + np.arange(len(new))
        known += len(new)
        people[owner, keypoint] = rows
        sums[owner] += rows[:, 3:]
        counts[owner] += 1
    return people[:known]


def _owners(rows: Floats, means: NDArray[np.float64], how: Grouping) -> Indices:
    """For each of (m, 3 + T) candidates the person it belongs to, or -1. means: (P, T) the people's tags."""
    distance = np.linalg.norm(rows[:, None, 3:].astype(np.float64) - means, axis=-1)
    cost = np.rint(distance) * 100 - rows[:, 2:3] if how.by_score else distance
    chosen, person = best_assignment(-cost)
    near = distance[chosen, person] < how.max_distance
    owner = np.full(len(rows), -1, np.intp)
    owner[chosen[near]] = person[near]
    return owner


def adjust(people: Floats, heatmaps: Floats) -> Floats:
    """Move each keypoint to the middle of its cell and a quarter of a cell on towards the higher neighbours."""
    person, keypoint = np.nonzero(people[..., 2] > 0)
    x, y = people[person, keypoint, :2].astype(np.intp).T
    moved = people.copy()
    moved[person, keypoint, :2] = _quarter(heatmaps, keypoint, x, y)
    return moved


def refine(people: Floats, heatmaps: Floats, tags: Floats) -> Floats:
    """Look for what people miss: at the highest of heatmap less rounded distance to the mean of their tags."""
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
    """Where, as an index of (H * W) cells, each of (m, T) tags is best placed: where heatmap less distance is highest.

    No cell under _STRONG can be better than one that reaches it, so that those are searched only where none does.
    """
    flat = tags.reshape(len(heatmap), -1)
    strong = np.flatnonzero(heatmap > _STRONG)
    places = np.zeros(len(means), np.intp)
    weak = np.ones(len(means), bool)
    if len(strong):
        values = heatmap[strong] - np.rint(_distances(flat[strong], means))
        best = values.argmax(axis=1)
        places = strong[best]
        weak = values[np.arange(len(means)), best] <= _STRONG
    for n in np.flatnonzero(weak):
        places[n] = np.argmax(heatmap - np.rint(_distances(flat, means[n : n + 1])[0]))
    return places


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
    """The middles of cells, moved by a quarter of a cell to the higher side (to the first of equals)."""
    height, width = heatmaps.shape[-2:]
    right = heatmaps[keypoint, y, np.minimum(x + 1, width - 1)] > heatmaps[keypoint, y, np.maximum(x - 1, 0)]
    below = heatmaps[keypoint, np.minimum(y + 1, height - 1), x] > heatmaps[keypoint, np.maximum(y - 1, 0), x]
    moved = np.stack([x + np.where(right, 0.75, 0.25), y + np.where(below, 0.75, 0.25)], axis=-1)
    return moved.astype(np.float32)
