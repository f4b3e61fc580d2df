"""PoseTrack's mAP: average precision of each joint, after matching people by their whole poses.

Pishchulin et al., "DeepCut", CVPR 2016, section 4 (multi-person AP by PCKh), as in PoseTrack's evaluation.
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
    """Each (16,): percent per joint of PoseTrack's 15, and their mean; nan for joints that are never labelled.

    precision, recall: over all found joints, regardless of score.
    """

    ap: Doubles
    precision: Doubles
    recall: Doubles


def posetrack_map(sequences: Sequence[Sequence[JointFrame]], quirks: Quirks = POSEVAL) -> JointAp:
    """Compute mAP over the labelled frames of all sequences together."""
    frames_used = [frame for frames in sequences for frame in quirks.judged(frames)]
    found = [_judge(frame) for frame in frames_used]
    labelled = sum((frame.truth.keypoint_scores > 0).sum(axis=0) for frame in frames_used)
    rows = np.full((3, len(POSETRACK_15)), np.nan)
    for joint, total in enumerate(np.broadcast_to(labelled, len(POSETRACK_15))):
        if total:
            scores = np.concatenate([scores[:, joint][scores[:, joint] > 0] for scores, _ in found])
            right = np.concatenate([right[:, joint][scores[:, joint] > 0] for scores, right in found])
            rows[:, joint] = _average_precision(scores, right, int(total))
    return JointAp(*(with_total(100 * row) for row in rows))


def _judge(frame: JointFrame) -> tuple[Doubles, Bools]:
    """Return the scores (M, 15) of the found joints, and which of them are right."""
    scores = frame.found.keypoint_scores.astype(np.float64)
    near = frame.distances() <= THRESHOLD
    right = np.zeros(scores.shape, bool)
    if near.size:
        # Assign each found person to the true person with the largest share of near joints. If several are assigned to
        # one true person, use the best.
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
    """Return average precision (area under the envelope of precision over recall), precision and recall."""
    if not len(scores):
        return 0.0, 0.0, 0.0
    hits = np.cumsum(right[np.argsort(-scores, kind="stable")])
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / total
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum()), float(precision[-1]), float(recall[-1])
