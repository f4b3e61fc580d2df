"""How alike two answers of one network are: boxes, keypoints and plain outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.families.reading import FAINT, Found
from engines.inputs import Arrays
from engines.ops.assignment import best_assignment
from engines.ops.nms import iou
from engines.poses import Floats, Poses

SURE = 0.3
"""The score from which a keypoint or box counts as found: what the server shows by default. One that the other network
is sure of, and this one gives at least FAINT, has changed its score and not its answer."""
FAR = 0.02
"""Of a crop's longer side: 5 pixels of 256, more than a cell of a heatmap with a stride of 4."""

_SAME = 0.5  # the least IoU of boxes around one person
_PADDING = 1.25  # how much longer the side of a crop is than that of the person in it


class Tally:
    """Adds up how far answers lie from those that they are held against."""

    def __init__(self) -> None:
        self.compared = 0
        self._lost = 0
        self._gained = 0
        self._distances: list[Floats] = []
        self._far = 0
        self._scores: list[Floats] = []

    def add(self, expected: Found, given: Found) -> None:
        """What was found in one crop, twice."""
        if isinstance(expected, Poses) and isinstance(given, Poses):
            self._add_poses(expected, given)
        else:
            self._add_boxes(expected, given)

    def figures(self) -> dict[str, float]:
        """By the names of `engines.build.accuracy_gate.gate.Limits`, but for the plain outputs."""
        sure = max(self.compared, 1)
        distances, scores = (
            np.concatenate([*parts, np.zeros(0, np.float32)]) for parts in (self._distances, self._scores)
        )
        both = max(len(distances), 1)
        return {
            "distance": float(distances.sum() / both),
            "far": self._far / both,
            "lost": self._lost / sure,
            "gained": self._gained / sure,
            "score": float(scores.sum() / both),
        }

    def _add_boxes(self, expected: Found, given: Found) -> None:
        rows, columns, overlap = _same(expected.boxes, given.boxes)
        sure, too = expected.scores >= SURE, given.scores >= SURE
        want, have = expected.scores[rows], given.scores[columns]
        met = sure[rows] & (have >= FAINT)
        self.compared += int(sure.sum())
        self._lost += int(sure.sum() - met.sum())
        self._gained += int(too.sum() - (too[columns] & (want >= FAINT)).sum())
        moved = (1 - overlap[met]) / 4  # each of four edges moved by a small share of the box takes that of its IoU
        self._met(moved, want[met] - have[met])

    def _add_poses(self, expected: Poses, given: Poses) -> None:
        if len(expected) == len(given) == 1:  # an estimator's: one person in a crop, of whom there may be nothing
            rows = columns = np.zeros(1, np.intp)
            scale = _longer(expected.boxes)
        else:
            rows, columns, _ = _same(expected.boxes, given.boxes)
            scale = _longer(expected.boxes[rows]) * _PADDING
        sure, too = expected.keypoint_scores >= SURE, given.keypoint_scores >= SURE
        want, have = expected.keypoint_scores[rows], given.keypoint_scores[columns]
        met = sure[rows] & (have >= FAINT)
        self.compared += int(sure.sum())
        self._lost += int(sure.sum() - met.sum())
        self._gained += int(too.sum() - (too[columns] & (want >= FAINT)).sum())
        apart = np.hypot(*(expected.keypoints[rows] - given.keypoints[columns]).transpose(2, 0, 1))
        self._met((apart / np.maximum(scale, 1)[:, None])[met], (want - have)[met])

    def _met(self, shares: NDArray[np.floating[Any]], scores: Floats) -> None:
        self._distances.append(shares.astype(np.float32))
        self._far += int((shares > FAR).sum())
        self._scores.append(np.abs(scores))


def finite(outputs: Arrays) -> bool:
    """Whether all of a graph's outputs are numbers."""
    return all(bool(np.isfinite(values).all()) for values in outputs.values())


def relative_difference(expected: Arrays, given: Arrays, *, ordered: bool) -> float:
    """The largest root mean square difference of an output, as a share of that of the output itself.

    ordered: the places of values mean something; else each item's values are compared by size, the largest first.
    """
    largest = 0.0
    for pair in zip(expected.values(), given.values(), strict=True):  # by place: an output may have several names
        a, b = (np.asarray(values, np.float64).reshape(len(values), -1) for values in pair)
        if not ordered:
            count = min(a.shape[1], b.shape[1])  # as suppression leaves more of one than of the other
            a, b = (-np.sort(-values, axis=1)[:, :count] for values in (a, b))
        size = np.sqrt(np.square(a).mean()) if a.size else 0.0
        apart = np.sqrt(np.square(a - b).mean()) if a.size else 0.0
        largest = max(largest, float(apart / max(size, np.finfo(np.float32).tiny)))
    return largest


def _same(want: Floats, have: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Which boxes are around the same people, and their overlap."""
    overlap = iou(want, have)
    rows, columns = best_assignment(overlap)
    good = overlap[rows, columns] >= _SAME
    return rows[good], columns[good], overlap[rows[good], columns[good]]


def _longer(boxes: Floats) -> Floats:
    sides: Floats = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0.0)
    return sides
