"""The keypoint sets of models and data sets, and conversion between them.

Sigmas are the per-keypoint constants of object keypoint similarity (OKS). Those of COCO are published with its
evaluation (cocodataset.org, keypoints evaluation). No sigmas are published for other keypoints; they get the sigma of
the nearest COCO keypoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Skeleton:
    """An ordered set of keypoint names with the limbs that connect them.

    sigmas: (K,) float32 OKS constants, in units of the square root of a person's area.
    limbs: pairs of keypoint indices. pairs: (left, right) indices that mirroring swaps.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = field(repr=False)
    sigmas: NDArray[np.float32] = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(left, right) keypoint indices."""
        index = {name: i for i, name in enumerate(self.keypoints)}
        return tuple(
            (i, index[f"right_{name.removeprefix('left_')}"]) for name, i in index.items() if name.startswith("left_")
        )


_COCO_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072,
    "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089,
}  # fmt: skip
_NEAREST = {
    "mouth": "nose", "eye_inner": "eye", "eye_outer": "eye", "pinky": "wrist", "index": "wrist", "thumb": "wrist",
    "heel": "ankle", "foot_index": "ankle", "big_toe": "ankle", "small_toe": "ankle", "head_top": "ear",
    "head_bottom": "shoulder", "head": "ear", "neck": "shoulder", "middle_hip": "hip", "pelvis": "hip",
    "thorax": "shoulder", "upper_neck": "shoulder",
}  # fmt: skip


def _skeleton(name: str, keypoints: str, limbs: str) -> Skeleton:
    names = tuple(keypoints.split())
    index = {n: i for i, n in enumerate(names)}
    kinds = [n.removeprefix("left_").removeprefix("right_") for n in names]
    sigmas = np.array([_COCO_SIGMAS[_NEAREST.get(kind, kind)] for kind in kinds], np.float32)
    sigmas.flags.writeable = False
    joined = tuple((index[a], index[b]) for a, b in (limb.split("-") for limb in limbs.split()))
    return Skeleton(name, names, joined, sigmas)


_ARMS_AND_LEGS = (
    "left_shoulder-left_elbow left_elbow-left_wrist right_shoulder-right_elbow right_elbow-right_wrist "
    "left_hip-left_knee left_knee-left_ankle right_hip-right_knee right_knee-right_ankle "
)
_TRUNK = "left_shoulder-right_shoulder left_hip-right_hip left_shoulder-left_hip right_shoulder-right_hip "

COCO_17 = _skeleton(
    "coco-17",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
    _ARMS_AND_LEGS + _TRUNK + "nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear "
    "left_ear-left_shoulder right_ear-right_shoulder",
)  # fmt: skip
POSETRACK_15 = _skeleton(
    "posetrack-15",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder "
    "left_shoulder left_elbow left_wrist head_bottom nose head_top",
    _ARMS_AND_LEGS + _TRUNK + "head_bottom-nose nose-head_top",
)
BLAZEPOSE_33 = _skeleton(
    "blazepose-33",
    "nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear "
    "left_mouth right_mouth left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky "
    "right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle "
    "right_ankle left_heel right_heel left_foot_index right_foot_index",
    _ARMS_AND_LEGS + _TRUNK + "nose-left_eye_inner left_eye_inner-left_eye left_eye-left_eye_outer "
    "left_eye_outer-left_ear nose-right_eye_inner right_eye_inner-right_eye right_eye-right_eye_outer "
    "right_eye_outer-right_ear left_mouth-right_mouth left_wrist-left_pinky left_wrist-left_index "
    "left_wrist-left_thumb left_pinky-left_index right_wrist-right_pinky right_wrist-right_index "
    "right_wrist-right_thumb right_pinky-right_index left_ankle-left_heel left_heel-left_foot_index "
    "left_ankle-left_foot_index right_ankle-right_heel right_heel-right_foot_index right_ankle-right_foot_index",
)
HALPE_26 = _skeleton(
    "halpe-26",
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle head neck middle_hip left_big_toe "
    "right_big_toe left_small_toe right_small_toe left_heel right_heel",
    _ARMS_AND_LEGS + "head-neck neck-left_shoulder neck-right_shoulder neck-middle_hip middle_hip-left_hip "
    "middle_hip-right_hip nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear "
    "left_ankle-left_big_toe left_ankle-left_small_toe left_ankle-left_heel right_ankle-right_big_toe "
    "right_ankle-right_small_toe right_ankle-right_heel",
)
MPII_16 = _skeleton(
    "mpii-16",
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top right_wrist "
    "right_elbow right_shoulder left_shoulder left_elbow left_wrist",
    _ARMS_AND_LEGS + "pelvis-left_hip pelvis-right_hip pelvis-thorax thorax-left_shoulder thorax-right_shoulder "
    "thorax-upper_neck upper_neck-head_top",
)
OPENPOSE_25 = _skeleton(
    "openpose-25",
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist middle_hip right_hip "
    "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe "
    "left_small_toe left_heel right_big_toe right_small_toe right_heel",
    _ARMS_AND_LEGS + "neck-nose neck-left_shoulder neck-right_shoulder neck-middle_hip middle_hip-left_hip "
    "middle_hip-right_hip nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear "
    "left_ankle-left_big_toe left_ankle-left_small_toe left_ankle-left_heel right_ankle-right_big_toe "
    "right_ankle-right_small_toe right_ankle-right_heel",
)

SKELETONS = MappingProxyType({s.name: s for s in (COCO_17, POSETRACK_15, BLAZEPOSE_33, HALPE_26, MPII_16, OPENPOSE_25)})
"""All skeletons by name."""

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


def _sources(name: str, index: dict[str, int]) -> tuple[int, int] | None:
    for names in ((name,), *_SUBSTITUTES.get(name, ())):
        if all(n in index for n in names):
            return index[names[0]], index[names[-1]]
    return None


def convert_keypoints(
    points: NDArray[np.float32], scores: NDArray[np.float32], source: Skeleton, target: Skeleton
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Convert the keypoints of N people to another skeleton.

    points: (N, K, D) float32, scores: (N, K) float32 of `source`; returns the same for `target`.
    A keypoint that lies between two of the source (a neck between the shoulders) is their midpoint with the lower of
    their scores. A keypoint that cannot be derived from the source is 0 with score 0.
    """
    index = {name: i for i, name in enumerate(source.keypoints)}
    found = [_sources(name, index) for name in target.keypoints]
    first = np.array([pair[0] if pair else 0 for pair in found])
    second = np.array([pair[1] if pair else 0 for pair in found])
    known = np.array([pair is not None for pair in found], np.float32)
    new_points = (points[:, first] + points[:, second]) * (0.5 * known[:, None])
    new_scores = np.minimum(scores[:, first], scores[:, second]) * known
    return new_points.astype(np.float32), new_scores.astype(np.float32)
