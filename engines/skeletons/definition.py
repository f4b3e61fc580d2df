"""What a skeleton is, and how one is defined: sigmas and left/right pairs are derived from names if they are not given.

Sigmas are the per-keypoint constants of object keypoint similarity (OKS). Those of COCO are published with its
evaluation (cocodataset.org, keypoints evaluation).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN_SIGMA = 0.07
"""The sigma of keypoints that no published one is near to: the mean of COCO's 17."""

COCO_SIGMAS: Mapping[str, float] = MappingProxyType({
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072,
    "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089,
})  # fmt: skip
_NEAREST = {
    "mouth": "nose", "eye_inner": "eye", "eye_outer": "eye", "pinky": "wrist", "index": "wrist", "thumb": "wrist",
    "heel": "ankle", "foot_index": "ankle", "big_toe": "ankle", "small_toe": "ankle", "head_top": "ear",
    "head_bottom": "shoulder", "head": "ear", "neck": "shoulder", "middle_hip": "hip", "pelvis": "hip",
    "thorax": "shoulder", "upper_neck": "shoulder", "hand": "wrist", "foot": "ankle", "paw": "ankle", "hoof": "ankle",
}  # fmt: skip
_SIDES = ("left_", "right_")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """An ordered set of keypoint names with the limbs that connect them.

    sigmas: (K,) float32 OKS constants, in units of the square root of a person's area.
    limbs: pairs of keypoint indices. pairs: (left, right) indices that mirroring swaps.
    parts: groups of keypoints that are much smaller than the whole, such as those of a hand, and are drawn finer.
    mapping: keypoints of other skeletons by name, with the own keypoint that each is, or two that it lies between.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...] = field(repr=False)
    sigmas: NDArray[np.float32] = field(repr=False, compare=False)
    pairs: tuple[tuple[int, int], ...] = field(default=(), repr=False)
    parts: tuple[tuple[int, ...], ...] = field(default=(), repr=False)
    mapping: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.keypoints)


def define(
    name: str,
    keypoints: Sequence[str],
    limbs: Iterable[Sequence[str | int]] = (),
    *,
    sigmas: Sequence[float] | None = None,
    pairs: Iterable[Sequence[str | int]] | None = None,
    parts: Iterable[Sequence[str | int]] = (),
    mapping: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Skeleton:
    """Define a skeleton. Keypoints are named, or numbered from 0.

    sigmas: by default those of the nearest kind of COCO keypoint, and UNKNOWN_SIGMA for others. pairs: (left, right),
    by default all left_NAME and right_NAME. Raises ValueError that begins with the argument's name.
    """
    _check_unique("keypoints", keypoints)
    index = {keypoint: n for n, keypoint in enumerate(keypoints)}
    joined = [_indices(f"limbs[{n}]", limb, index) for n, limb in enumerate(limbs)]
    _check_unique("limbs", ["-".join(keypoints[end] for end in sorted(limb)) for limb in joined])
    swapped = _mirrored(index) if pairs is None else [_indices(f"pairs[{n}]", p, index) for n, p in enumerate(pairs)]
    _check_unique("pairs", [keypoints[side] for pair in swapped for side in pair])
    fine = [_indices(f"parts[{n}]", part, index) for n, part in enumerate(parts)]
    _check_unique("parts", [keypoints[one] for part in fine for one in part])
    mapped = tuple((key, tuple(own)) for key, own in mapping.items())
    for key, own in mapped:
        _indices(f"mapping {key}", own, index)
    return Skeleton(
        name,
        tuple(keypoints),
        tuple((a, b) for a, b in joined),
        _sigmas(keypoints, sigmas),
        tuple((left, right) for left, right in swapped),
        tuple(fine),
        mapped,
    )


def between(limbs: str) -> list[list[str]]:
    """Read limbs in short: "a-b b-c"."""
    return [limb.split("-") for limb in limbs.split()]


def _sigmas(keypoints: Sequence[str], given: Sequence[float] | None) -> NDArray[np.float32]:
    if given is None:
        given = [_nearest_sigma(name) for name in keypoints]
    if len(given) != len(keypoints):
        raise ValueError(f"sigmas: are {len(given)}, but there are {len(keypoints)} keypoints")
    if bad := [sigma for sigma in given if not (isfinite(sigma) and 0 < sigma <= 1)]:
        raise ValueError(f"sigmas: must be above 0 and at most 1, not {bad[0]}")
    sigmas = np.array(given, np.float32)
    sigmas.flags.writeable = False
    return sigmas


def _nearest_sigma(name: str) -> float:
    """By the whole name without its side, or by its last word: a front_knee is a knee."""
    kind = name.lower().removeprefix("left_").removeprefix("right_")
    for one in (kind, kind.rpartition("_")[2]):
        if (known := _NEAREST.get(one, one)) in COCO_SIGMAS:
            return COCO_SIGMAS[known]
    return UNKNOWN_SIGMA


def _mirrored(index: Mapping[str, int]) -> list[tuple[int, ...]]:
    left, right = _SIDES
    others = {name: f"{right}{name.removeprefix(left)}" for name in index if name.startswith(left)}
    return [(index[name], index[other]) for name, other in others.items() if other in index]


def _indices(where: str, named: Sequence[Any], index: Mapping[str, int]) -> tuple[int, ...]:
    """The indices of keypoints given by name or number. Raises ValueError for unknown ones, and if one is repeated."""
    found = []
    for one in named:
        if isinstance(one, str):
            if one not in index:
                raise ValueError(f"{where}: {one!r} is not one of the keypoints{_hint(one, index)}")
            found.append(index[one])
        else:
            if not 0 <= one < len(index):
                raise ValueError(f"{where}: there is no keypoint {one}; they are numbered from 0 to {len(index) - 1}")
            found.append(int(one))
    names = list(index)
    _check_unique(where, [names[n] for n in found])
    return tuple(found)


def _hint(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f", which are {', '.join(known)}"


def _check_unique(where: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{where}: {name!r} is there twice")
