"""Conversion of keypoints between skeletons: by name, by a skeleton's own mapping, and by substitutes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engines.skeletons.definition import Skeleton

# Substitutes for keypoints that the source lacks: one source keypoint, or the midpoint of two.
_SUBSTITUTES: dict[str, tuple[tuple[str, ...], ...]] = {
    "neck": (("thorax",), ("left_shoulder", "right_shoulder")),
    "thorax": (("neck",), ("left_shoulder", "right_shoulder")),
    "middle_hip": (("pelvis",), ("left_hip", "right_hip")),
    "pelvis": (("middle_hip",), ("left_hip", "right_hip")),
    "head_bottom": (("upper_neck",), ("neck",), ("left_shoulder", "right_shoulder")),
    "upper_neck": (("head_bottom",), ("neck",), ("left_shoulder", "right_shoulder")),
    "head_top": (("head",),),
    "head": (("head_top",),),
    "left_big_toe": (("left_foot_index",),),
    "right_big_toe": (("right_foot_index",),),
    "left_foot_index": (("left_big_toe",),),
    "right_foot_index": (("right_big_toe",),),
}


def derivable(source: Skeleton, target: Skeleton) -> NDArray[np.bool_]:
    """Which keypoints of `target`, (T,), can be derived from those of `source`."""
    return _derivation(source, target)[2] > 0


def convert_keypoints(
    points: NDArray[np.float32], scores: NDArray[np.float32], source: Skeleton, target: Skeleton
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convert the keypoints of N people to another skeleton.

    points: (N, K, D) float32, scores: (N, K) float32 of `source`; returns the same for `target`.
    A keypoint that lies between two of the source (a neck between the shoulders) is their midpoint with the lower of
    their scores. A keypoint that cannot be derived from the source is 0 with score 0.
    """
    first, second, known = _derivation(source, target)
    new_points = (points[:, first] + points[:, second]) * (0.5 * known[:, None])
    new_scores = np.minimum(scores[:, first], scores[:, second]) * known
    return new_points.astype(np.float32), new_scores.astype(np.float32)


@lru_cache(64)
def _derivation(source: Skeleton, target: Skeleton) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each keypoint of `target`, (T,), the two of `source` (perhaps the same) that it lies between, and 1 if there
    are such, else 0.
    """
    found = [_sources(name, source) for name in target.keypoints]
    first = np.array([pair[0] if pair else 0 for pair in found])
    second = np.array([pair[1] if pair else 0 for pair in found])
    return first, second, np.array([pair is not None for pair in found], np.float32)


def _sources(name: str, source: Skeleton) -> tuple[int, int] | None:
    own = {keypoint: n for n, keypoint in enumerate(source.keypoints)}
    pairs = {keypoint: (n, n) for keypoint, n in own.items()}
    pairs |= {other: (own[names[0]], own[names[-1]]) for other, names in source.mapping}
    for names in ((name,), *_SUBSTITUTES.get(name, ())):
        if all(n in pairs for n in names):
            (a, b), (c, d) = pairs[names[0]], pairs[names[-1]]
            if len(names) == 1:
                return a, b
            if a == b and c == d:
                return a, c
    return None
