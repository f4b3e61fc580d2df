"""Hands, faces and whole bodies, after COCO-WholeBody (Jin et al., ECCV 2020), whose names, order and sigmas they have
(github.com/jin-s13/COCO-WholeBody; the names are those of github.com/open-mmlab/mmpose,
configs/_base_/datasets/coco_wholebody.py).

The 68 keypoints of a face are those of 300-W (Sagonas et al., ICCV Workshops 2013): the jaw from the person's right ear
to the left, brows, nose, eyes, lips.
"""

from __future__ import annotations

from engines.skeletons.bodies import ARMS_AND_LEGS, COCO_17, FEET, HEAD, TRUNK
from engines.skeletons.definition import between, define

_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
_JOINTS = [f"{finger}{joint}" for finger in _FINGERS for joint in range(1, 5)]
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017, 0.021, 0.021,
    0.032, 0.02, 0.019, 0.022, 0.031,
)  # fmt: skip
_FACE_SIGMAS = (
    0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043, 0.041,
    0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012,
    0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034,
    0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008,
    0.008, 0.008, 0.01, 0.008,
)  # fmt: skip
_FOOT_SIGMAS = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
_FOOT = ("big_toe", "small_toe", "heel")


def _hand(root: str, side: str = "") -> tuple[list[str], list[tuple[str, str]]]:
    """The keypoints of a hand, from its root to the tips of its fingers, and its limbs."""
    names = [side + root, *(side + joint for joint in _JOINTS)]
    limbs = [(names[0] if n % 4 == 0 else names[n], names[n + 1]) for n in range(len(_JOINTS))]
    return names, limbs


def _run(first: int, last: int, *, closed: bool = False) -> list[tuple[str, str]]:
    """The limbs from keypoint to keypoint of a contour of a face."""
    limbs = [(_FACE[n], _FACE[n + 1]) for n in range(first, last)]
    return [*limbs, (_FACE[last], _FACE[first])] if closed else limbs


_FACE = [f"face-{n}" for n in range(68)]
_FACE_LIMBS = [
    *_run(0, 16), *_run(17, 21), *_run(22, 26), *_run(27, 30), *_run(31, 35), *_run(36, 41, closed=True),
    *_run(42, 47, closed=True), *_run(48, 59, closed=True), *_run(60, 67, closed=True),
]  # fmt: skip
_FACE_PAIRS = [
    (f"face-{left}", f"face-{right}")
    for left, right in (
        *((16 - n, n) for n in range(8)),
        *((26 - n, 17 + n) for n in range(5)),
        *((35, 31), (34, 32), (45, 36), (44, 37), (43, 38), (42, 39), (47, 40), (46, 41)),
        *((54, 48), (53, 49), (52, 50), (55, 59), (56, 58), (64, 60), (63, 61), (65, 67)),
    )
]
_LEFT_HAND, _LEFT_LIMBS = _hand("hand_root", "left_")
_RIGHT_HAND, _RIGHT_LIMBS = _hand("hand_root", "right_")
_HAND_PAIRS = list(zip(_LEFT_HAND, _RIGHT_HAND, strict=True))

HAND_21 = define("hand-21", *_hand("wrist"), sigmas=_HAND_SIGMAS)
HANDS_42 = define(
    "hands-42",
    [*_LEFT_HAND, *_RIGHT_HAND],
    [*_LEFT_LIMBS, *_RIGHT_LIMBS],
    sigmas=_HAND_SIGMAS * 2,
    parts=(_LEFT_HAND, _RIGHT_HAND),
)
FACE_68 = define("face-68", _FACE, _FACE_LIMBS, sigmas=_FACE_SIGMAS, pairs=_FACE_PAIRS)
COCO_WHOLEBODY_133 = define(
    "coco-wholebody-133",
    [
        *COCO_17.keypoints,
        *(f"{side}_{point}" for side in ("left", "right") for point in _FOOT),
        *_FACE,
        *_LEFT_HAND,
        *_RIGHT_HAND,
    ],
    [
        *between(ARMS_AND_LEGS + TRUNK + HEAD + FEET + "left_ear-left_shoulder right_ear-right_shoulder"),
        *_FACE_LIMBS,
        *_LEFT_LIMBS,
        *_RIGHT_LIMBS,
    ],
    sigmas=(*COCO_17.sigmas.tolist(), *_FOOT_SIGMAS, *_FACE_SIGMAS, *_HAND_SIGMAS, *_HAND_SIGMAS),
    pairs=[
        *COCO_17.pairs,
        *((f"left_{point}", f"right_{point}") for point in _FOOT),
        *_FACE_PAIRS,
        *_HAND_PAIRS,
    ],
    parts=([*COCO_17.keypoints[:5], *_FACE], _LEFT_HAND, _RIGHT_HAND),
)
