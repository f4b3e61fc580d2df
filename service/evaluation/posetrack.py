"""Pairing the frames of PoseTrack's truth and results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.ops.polygons import contains
from engines.poses import Floats, Poses
from service.evaluation.joints import JointFrame, head_sizes
from service.formats.parsing import FormatError
from service.formats.sequence import PoseFrame, PoseSequence


def pair(truth: PoseSequence, found: PoseSequence) -> list[JointFrame]:
    """Pair each frame of the truth with the found frame of the same name. A missing frame counts as one without people.

    Joints in regions that were not labelled are left out on both sides. Raises FormatError if the sequences have no
    frame in common, for truth without head boxes, and for duplicate track ids.
    """
    by_name = {frame.name: frame for frame in found.frames}
    if truth.frames and not any(frame.name in by_name for frame in truth.frames):
        theirs = found.frames[0].name if found.frames else "no frames"
        raise FormatError(
            f"{found.name}: none of its frames is one of the truth: {theirs} against {truth.frames[0].name}; results "
            "must name the same image files as the truth"
        )
    return [_pair(frame, by_name.get(frame.name), truth.name) for frame in truth.frames]


def _pair(truth: PoseFrame, found: PoseFrame | None, sequence: str) -> JointFrame:
    people = _outside(truth.poses, truth.ignored)
    others = Poses.empty(people.skeleton) if found is None else _outside(found.poses, truth.ignored)
    labelled, usable = _have_joints(people), _have_joints(others)
    for who, ids in (("the truth", people.ids), ("the results", others.ids)):
        named = [] if ids is None else ids[ids >= 0].tolist()
        twice = [number for number in named if named.count(number) > 1]
        if twice:
            raise FormatError(f"{sequence}: {who} of {truth.name} name track id {twice[0]} twice")
    if people.ids is not None and (people.ids < 0).any():
        raise FormatError(f"{sequence}: the truth of {truth.name} has people with a track id and people without")
    heads = truth.head_boxes
    if heads is None:
        if labelled.any():
            raise FormatError(f"{sequence}: the people of {truth.name} have no head boxes; PoseTrack measures by them")
        heads = np.zeros((len(people), 4), np.float32)
    return JointFrame(people.select(labelled), others.select(usable), head_sizes(heads[labelled]), truth.labelled)


def _have_joints(poses: Poses) -> NDArray[np.bool_]:
    return np.asarray((poses.keypoint_scores > 0).any(axis=1))


def _outside(poses: Poses, regions: Sequence[Floats]) -> Poses:
    """Return the poses without the keypoints inside any of the regions."""
    scores = poses.keypoint_scores.copy()
    for region in regions:
        scores[contains(region, poses.keypoints)] = 0
    return replace(poses, keypoint_scores=scores)
