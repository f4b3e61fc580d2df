"""Measures how far two results of one network agree: boxes, keypoints and raw outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.build.crop_decoder import LOW_SCORE, CropResult
from engines.inputs import Arrays
from engines.ops.assignment import best_assignment
from engines.ops.nms import iou
from engines.poses import Floats, Poses

FOUND = 0.3
"""The score from which a keypoint or box counts as found: the server's default threshold. If one network scores it at
least FOUND and the other at least LOW_SCORE, only its score has changed."""
FAR = 0.02
"""A share of a crop's longer side: 5 pixels of 256, more than a cell of a heatmap with a stride of 4."""

Indices = NDArray[np.intp]

_SAME = 0.5  # the lowest IoU of boxes around one person
_PADDING = 1.25  # the side of a crop relative to that of the person in it


class Tally:
    """Accumulates the differences between results and their references."""

    def __init__(self) -> None:
        self.compared = 0
        self._lost = 0
        self._gained = 0
        self._distances: list[Floats] = []
        self._far = 0
        self._scores: list[Floats] = []

    def add(self, expected: CropResult, given: CropResult) -> None:
        if isinstance(expected, Poses) and isinstance(given, Poses):
            self._add_poses(expected, given)
        else:
            self._add_boxes(expected, given)

    def figures(self) -> dict[str, float]:
        """The figures by the names of `engines.build.accuracy_gate.gate.Differences`, except `outputs`."""
        found = max(self.compared, 1)
        distances, scores = (
            np.concatenate([*parts, np.zeros(0, np.float32)]) for parts in (self._distances, self._scores)
        )
        both = max(len(distances), 1)
        return {
            "distance": float(distances.sum() / both),
            "far": self._far / both,
            "lost": self._lost / found,
            "gained": self._gained / found,
            "score": float(scores.sum() / both),
        }

    def _add_boxes(self, expected: CropResult, given: CropResult) -> None:
        rows, columns, overlap = _same(expected.boxes, given.boxes)
        # Moving each of the four edges by a small share of the box lowers the IoU by four times that share.
        self._add_matches(expected.scores, given.scores, rows, columns, (1 - overlap) / 4)

    def _add_poses(self, expected: Poses, given: Poses) -> None:
        if len(expected) == len(given) == 1:  # from an estimator: one person in a crop, who may have no keypoints
            rows = columns = np.zeros(1, np.intp)
            scale = _longer(expected.boxes)
        else:
            rows, columns, _ = _same(expected.boxes, given.boxes)
            scale = _longer(expected.boxes[rows]) * _PADDING
        apart = np.hypot(*(expected.keypoints[rows] - given.keypoints[columns]).transpose(2, 0, 1))
        shifts = apart / np.maximum(scale, 1)[:, None]
        self._add_matches(expected.keypoint_scores, given.keypoint_scores, rows, columns, shifts)

    def _add_matches(
        self, expected: Floats, given: Floats, rows: Indices, columns: Indices, shifts: NDArray[np.floating[Any]]
    ) -> None:
        """Add the scores of boxes or keypoints. rows, columns: the matches. shifts: their relative distances."""
        found, found_too = expected >= FOUND, given >= FOUND
        want, have = expected[rows], given[columns]
        matched = found[rows] & (have >= LOW_SCORE)
        self.compared += int(found.sum())
        self._lost += int(found.sum() - matched.sum())
        self._gained += int(found_too.sum() - (found_too[columns] & (want >= LOW_SCORE)).sum())
        self._distances.append(shifts[matched].astype(np.float32))
        self._far += int((shifts[matched] > FAR).sum())
        self._scores.append(np.abs((want - have)[matched]))


def finite(outputs: Arrays) -> bool:
    """True if all values of a graph's outputs are finite."""
    return all(bool(np.isfinite(values).all()) for values in outputs.values())


def relative_difference(expected: Arrays, given: Arrays, *, ordered: bool) -> float:
    """The largest root mean square difference of an output, relative to the root mean square of the output itself.

    ordered: values are compared by position; otherwise each item's values are sorted first, the largest first.
    """
    largest = 0.0
    for pair in zip(expected.values(), given.values(), strict=True):  # by position: an output may have several names
        a, b = (np.asarray(values, np.float64).reshape(len(values), -1) for values in pair)
        if not ordered:
            count = min(a.shape[1], b.shape[1])  # suppression may leave more of one than of the other
            a, b = (-np.sort(-values, axis=1)[:, :count] for values in (a, b))
        size = np.sqrt(np.square(a).mean()) if a.size else 0.0
        apart = np.sqrt(np.square(a - b).mean()) if a.size else 0.0
        largest = max(largest, float(apart / max(size, np.finfo(np.float32).tiny)))
    return largest


def _same(want: Floats, have: Floats) -> tuple[Indices, Indices, Floats]:
    """The indices of boxes around the same people, and their overlap."""
    overlap = iou(want, have)
    rows, columns = best_assignment(overlap)
    good = overlap[rows, columns] >= _SAME
    return rows[good], columns[good], overlap[rows[good], columns[good]]


def _longer(boxes: Floats) -> Floats:
    sides: Floats = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0.0)
    return sides
