"""The rules of a stream or a camera, as data. `rules.md` describes what each of them does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from engines.skeletons import Skeleton, define, derivable
from service.rules.ground import GroundPlane
from service.tracking.zones import Line, Zone

BODY = ("shoulder", "hip", "knee", "ankle")
"""The parts of the body, left and right, that postures and falls are found by."""

NAMED_ANGLES = MappingProxyType({
    f"{side}_{joint}": (f"{side}_{before}", f"{side}_{joint}", f"{side}_{after}")
    for side in ("left", "right")
    for joint, before, after in (
        ("elbow", "shoulder", "wrist"), ("shoulder", "hip", "elbow"), ("hip", "shoulder", "knee"),
        ("knee", "hip", "ankle"),
    )
})  # fmt: skip
"""The angles that need no keypoints: the name of the joint, and the keypoints before, at and after it."""

LEAST_RANGE = 10.0
"""Degrees between the thresholds of a repetition, so that jitter is none."""


@dataclass(frozen=True, slots=True)
class AngleRule:
    """The angle at the middle one of three keypoints. Raises ValueError if they are not three different ones."""

    name: str
    keypoints: tuple[str, str, str]

    def __post_init__(self) -> None:
        if len(set(self.keypoints)) < 3:
            raise ValueError(f"angle {self.name!r} needs three different keypoints, not {', '.join(self.keypoints)}")

    @staticmethod
    def named(name: str) -> AngleRule:
        """Return a named angle. Raises ValueError if there is none of that name."""
        if name not in NAMED_ANGLES:
            raise ValueError(f"no angle is called {name!r}; give it three keypoints, or use {', '.join(NAMED_ANGLES)}")
        return AngleRule(name, NAMED_ANGLES[name])


@dataclass(frozen=True, slots=True)
class FallRule:
    """Falls are reported, but not those of people whose hips lie in one of the zones."""

    ignore_zones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RepetitionRule:
    """Counts how often an angle has passed below `low` degrees and above `high` degrees.

    Raises ValueError if they are not at least 10 degrees apart, in 0..180.
    """

    name: str
    angle: AngleRule
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (self.low >= 0 and self.low + LEAST_RANGE <= self.high <= 180):
            raise ValueError(
                f"repetition {self.name!r}: low and high must be in 0..180 degrees, and high at least {LEAST_RANGE:g} "
                f"more than low, not {self.low:g} and {self.high:g}"
            )


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one stream. ground: the plane for speeds, None for no speeds."""

    angles: tuple[AngleRule, ...] = ()
    posture: bool = False
    fall: FallRule | None = None
    repetitions: tuple[RepetitionRule, ...] = ()
    occupancy: bool = False
    counts: bool = False
    ground: GroundPlane | None = None

    def __bool__(self) -> bool:
        """True if there is a rule."""
        return self != Rules()

    @property
    def events(self) -> bool:
        """True if the rules have events."""
        return self.posture or self.fall is not None or bool(self.repetitions)

    @property
    def needs_posture(self) -> bool:
        """True if postures must be found."""
        return self.posture or self.fall is not None

    @property
    def joints(self) -> Skeleton | None:
        """The keypoints that the rules look at, as a skeleton of their own. None if they look at none."""
        angles = (*self.angles, *(repetition.angle for repetition in self.repetitions))
        names = dict.fromkeys(name for angle in angles for name in angle.keypoints)
        if self.needs_posture:
            names |= dict.fromkeys(f"{side}_{part}" for part in BODY for side in ("left", "right"))
        return define("rules", tuple(names)) if names else None

    def check(self, zones: Sequence[Zone], lines: Sequence[Line]) -> None:
        """Raise ValueError if names are not unique, or the rules need zones or lines that there are not."""
        for what, names in (
            ("angles", [angle.name for angle in self.angles]),
            ("repetitions", [repetition.name for repetition in self.repetitions]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"rules: several {what} are called {twice[0]!r}; give each a name of its own")
        known = [zone.name for zone in zones]
        for name in self.fall.ignore_zones if self.fall else ():
            if name not in known:
                raise ValueError(f"rules.fall: no zone is called {name!r}; there are {', '.join(known) or 'no zones'}")
        if self.occupancy and not zones:
            raise ValueError("rules.occupancy: there are no zones to count people in")
        if self.counts and not (zones or lines):
            raise ValueError("rules.counts: there are no zones or lines to count at")

    def check_skeleton(self, skeleton: Skeleton) -> None:
        """Raise ValueError if a model's skeleton lacks keypoints that the rules look at."""
        if (joints := self.joints) is None:
            return
        missing = [name for name, there in zip(joints.keypoints, derivable(skeleton, joints), strict=True) if not there]
        if missing:
            raise ValueError(
                f"rules: the model's skeleton {skeleton.name} has no {', '.join(missing)}; "
                f"it has {', '.join(skeleton.keypoints[:40])}"
            )


def indices(joints: Skeleton, angles: Sequence[AngleRule]) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Return the places in `joints` of the keypoints of each angle, (A, 3)."""
    found = [[joints.keypoints.index(name) for name in angle.keypoints] for angle in angles]
    return np.array(found, np.intp).reshape(-1, 3)
