"""PoseTrack's mAP: average precision of each joint, over people that are matched by their whole poses.

Pishchulin et al., "DeepCut", CVPR 2016, section 4 (multi-person AP by PCKh), as PoseTrack's evaluation has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles
from engines.skeletons import POSETRACK_15
from service.evaluation.joints import POSEVAL, THRESHOLD, JointFrame, Quirks, with_total

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class JointAp:
    """Per joint of PoseTrack's 15, and their mean as the 16th; percent; nan for a joint that is never labelled.

    precision, recall: of all that was found, whatever its score.
    """

    ap: Doubles
    precision: Doubles
    recall: Doubles


def posetrack_map(sequences: Sequence[Sequence[JointFrame]], quirks: Quirks = POSEVAL) -> JointAp:
    """mAP over the labelled frames of all sequences together."""
    seen = [frame for frames in sequences for frame in quirks.judged(frames)]
    found = [_judge(frame) for frame in seen]
    labelled = sum((frame.truth.keypoint_scores > 0).sum(axis=0) for frame in seen)
    rows = np.full((3, len(POSETRACK_15)), np.nan)
    for joint, total in enumerate(np.broadcast_to(labelled, len(POSETRACK_15))):
        if total:
            scores = np.concatenate([scores[:, joint][scores[:, joint] > 0] for scores, _ in found])
            right = np.concatenate([right[:, joint][scores[:, joint] > 0] for scores, right in found])
            rows[:, joint] = _average_precision(scores, right, int(total))
    return JointAp(*(with_total(100 * row) for row in rows))


def _judge(frame: JointFrame) -> tuple[Doubles, Bools]:
    """(M, 15) scores of the found joints, and which of them are right."""
    scores = frame.found.keypoint_scores.astype(np.float64)
    near = frame.distances() <= THRESHOLD
    right = np.zeros(scores.shape, bool)
    if near.size:
        # Each found person goes to the true one of which it has the largest part; of several the best one counts.
        labelled = (frame.truth.keypoint_scores > 0).sum(axis=1)
        part = near.sum(axis=2) / np.maximum(1, labelled)[:, None]
        own = np.zeros_like(part)
        chosen, everyone = part.argmax(axis=0), np.arange(part.shape[1])
        own[chosen, everyone] = part[chosen, everyone]
        best = own.argmax(axis=1)
        people = np.flatnonzero(own.max(axis=1) > 0)
        right[best[people]] = near[people, best[people]]
    return scores, right


def _average_precision(scores: Doubles, right: Bools, total: int) -> tuple[float, float, float]:
    """Average precision (area under the curve of the best precision at each recall or more), precision and recall."""
    if not len(scores):
        return 0.0, 0.0, 0.0
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / total
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum()), float(precision[-1]), float(recall[-1])
