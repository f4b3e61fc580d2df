"""PoseTrack's tracking metrics: CLEAR MOT of each joint separately, with the person's id as the joint's id.

Andriluka et al., "PoseTrack", CVPR 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.assignment import best_assignment
from engines.poses import Doubles
from engines.skeletons import POSETRACK_15
from service.evaluation.joints import POSEVAL, THRESHOLD, JointFrame, Quirks, with_total
from service.evaluation.sequence import ids_of

Ints = NDArray[np.int64]

_NOBODY = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, eq=False)
class JointMot:
    """Counts (15,) per joint, and the metrics (16,) computed from them: percent per joint, and their mean. Joints that
    are never labelled have nan.

    matches: including switches. distances: in head sizes, summed over the matches (and candidates, see Quirks).
    """

    matches: Ints
    misses: Ints
    false_positives: Ints
    switches: Ints
    distances: Doubles

    @property
    def mota(self) -> Doubles:
        """1 - (misses + false positives + switches) / labelled joints."""
        wrong = self.misses + self.false_positives + self.switches
        return with_total(100 * (1 - _ratio(wrong, self.matches + self.misses)))

    @property
    def motp(self) -> Doubles:
        """1 - mean distance of the matches in head sizes; 50 to 100 without quirks."""
        return with_total(100 * (1 - _ratio(self.distances, self.matches)))

    @property
    def precision(self) -> Doubles:
        """Matches / found joints."""
        return with_total(100 * _ratio(self.matches, self.matches + self.false_positives))

    @property
    def recall(self) -> Doubles:
        """Matches / labelled joints."""
        return with_total(100 * _ratio(self.matches, self.matches + self.misses))


def posetrack_mot(sequences: Sequence[Sequence[JointFrame]], quirks: Quirks = POSEVAL) -> JointMot:
    """Compute MOTA and MOTP per joint over all sequences together.

    Found people without an identity (id below 0) are ignored. Raises ValueError for poses without ids.
    """
    joints = [_Joint() for _ in POSETRACK_15.keypoints]
    for frames in sequences:
        for joint in joints:
            joint.start()
        for frame in quirks.judged(frames)[: -1 if quirks.drops_last_frame else None]:
            _count(frame, joints, quirks)
    matches, misses, false_positives, switches = np.array(
        [(j.matches, j.misses, j.false_positives, j.switches) for j in joints]
    ).T
    distances = np.array([joint.distance for joint in joints])
    return JointMot(matches, misses, false_positives, switches, distances)


class _Joint:
    """The counts of one joint so far, and its matches in the current sequence."""

    def __init__(self) -> None:
        self.matches = self.misses = self.false_positives = self.switches = 0
        self.distance = 0.0
        self.start()

    def start(self) -> None:
        """Start a sequence without earlier matches."""
        self.names: dict[int, int] = {}  # each person's last matched id
        self.persons: dict[int, int] = {}  # each id's last newly matched person

    def count(self, truth: Ints, found: Ints, distances: Doubles, quirks: Quirks) -> None:
        """Count a frame. distances: (N, M) in head sizes."""
        near = distances <= THRESHOLD
        if quirks.counts_candidates:
            self.distance += float(distances[near].sum())
        # People keep their last id if it is near enough. Of the others, as many as possible are matched, nearest first.
        names = np.array([self.names.get(person, _NOBODY) for person in truth.tolist()], np.int64)
        kept = near & (names[:, None] == found)
        kept &= np.cumsum(kept, axis=0) == 1  # two people may have been matched to one id in different frames
        free = near & ~kept.any(axis=1)[:, None] & ~kept.any(axis=0)[None, :]
        worth = len(truth) * THRESHOLD + 1
        rows, columns = best_assignment(np.where(free, worth - np.where(near, distances, 0), 0))
        new = free[rows, columns]
        for row, column in zip(rows[new], columns[new], strict=True):
            self._name(int(truth[row]), int(found[column]), float(distances[row, column]), quirks)
        matched = int(kept.sum() + new.sum())
        self.matches += matched
        self.misses += len(truth) - matched
        self.false_positives += len(found) - matched
        self.distance += float(distances[kept].sum())

    def _name(self, person: int, name: int, distance: float, quirks: Quirks) -> None:
        """Match a person to another id than the last one."""
        switched = self.names.get(person, name) != name
        moved = self.persons.get(name, person) != person
        self.switches += switched
        self.distance += distance
        if quirks.repeats_changes:
            new = (switched and name not in self.persons) + (moved and person not in self.names)
            self.distance += distance * (moved + new)
        self.names[person], self.persons[name] = name, person


def _count(frame: JointFrame, joints: Sequence[_Joint], quirks: Quirks) -> None:
    if quirks.shortens_empty_frames and not (len(frame.truth) and len(frame.found)):
        for joint in joints:
            joint.misses += 1
            joint.false_positives += 1
        return
    truth, found, distances = ids_of(frame.truth), ids_of(frame.found), frame.distances()
    named = found >= 0
    for n, joint in enumerate(joints):
        labelled, usable = frame.truth.keypoint_scores[:, n] > 0, named & (frame.found.keypoint_scores[:, n] > 0)
        joint.count(truth[labelled], found[usable], distances[labelled][:, usable, n], quirks)


def _ratio(part: NDArray[np.number], whole: Ints) -> Doubles:
    return np.where(whole > 0, part / np.maximum(1, whole), np.nan)
