"""What the rules of a stream remember between frames."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.rules import fall, posture, repetitions, speed
from service.rules.definition import Rules
from service.rules.geometry import NEVER
from service.tracking.zones import Line, Zone

MOST_REPETITIONS = 8
"""The most repetitions of one stream."""
_LARGEST, _MOST_COUNTED = 1e13, 2**53
_TIMES = ("weighed", "placed", "measured", "fast", "upright", "beyond", "known", "stood", "moving")


@lru_cache
def row_type(count: int) -> np.dtype[Any]:
    """The type of a person's state, for that many repetitions. All numbers take 8 bytes."""
    members = (*posture.FIELDS, *fall.FIELDS, *speed.FIELDS, *repetitions.fields(count))
    return np.dtype([("id", "<i8"), *members])


@lru_cache
def _is_float(count: int) -> NDArray[np.bool_]:
    """Which of the 8-byte numbers of a person's state are floats."""
    fields = [row_type(count)[name] for name in row_type(count).names or ()]
    kinds = [(field.base.kind == "f", field.itemsize // 8) for field in fields]
    return np.repeat(*map(np.array, zip(*kinds, strict=True)))


def rows(ids: NDArray[np.int64], count: int) -> NDArray[Any]:
    """Return the states of new people, for that many repetitions."""
    people = np.zeros(len(ids), row_type(count))
    people["id"] = ids
    people["posture"] = posture.UNKNOWN
    for name in _TIMES:
        people[name] = NEVER
    return people


@dataclass(frozen=True, slots=True, eq=False)
class RulesState:
    """The state of `BodyRules`. hash: of the rules, zones and lines that it belongs to, empty without rules.

    people: (N,) of `row_type`, one row for each id. counts: (zones + lines, 2), how often people have entered and left
    each zone, and crossed each line to the left and to the right.
    """

    hash: str = ""
    people: NDArray[Any] = field(default_factory=lambda: rows(np.zeros(0, np.int64), 0))
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    @property
    def repetitions(self) -> int:
        """Of how many repetitions it is."""
        return int(self.people.dtype["count"].shape[0])

    @staticmethod
    def initial(rules: Rules, zones: Sequence[Zone], lines: Sequence[Line]) -> RulesState:
        nobody = rows(np.zeros(0, np.int64), len(rules.repetitions))
        return RulesState(hash_of(rules, zones, lines), nobody, np.zeros((len(zones) + len(lines), 2), np.int64))

    def check(self, now: float) -> None:
        """Raise ValueError for values that no rules can have. now: time of the last frame, in seconds."""
        people = self.people
        flat = people.view(np.int64).reshape(len(people), people.itemsize // 8)
        floats = flat.view(np.float64)[:, _is_float(self.repetitions)]
        good = np.isfinite(floats).all() and (np.abs(floats) <= _LARGEST).all()
        good &= all(bool((people[name] <= now).all()) for name in _TIMES)
        good &= all(bool(((people[name] >= 0) & (people[name] <= 1)).all()) for name in ("evidence", "short"))
        good &= bool((people["size"] >= 0).all())
        for name, least, most in (("posture", -1, 2), ("side", -1, 1), ("home", -1, 1), ("count", 0, _MOST_COUNTED)):
            good &= bool(((people[name] >= least) & (people[name] <= most)).all())
        if not (good and ((self.counts >= 0) & (self.counts <= _MOST_COUNTED)).all()):
            raise ValueError("what the rules remember is out of range")

    def fits(self, rules: Rules, zones: Sequence[Zone], lines: Sequence[Line]) -> bool:
        """Return False if the state names these rules, but has another shape."""
        if not self.hash or self.hash != hash_of(rules, zones, lines):
            return True
        return (self.repetitions, len(self.counts)) == (len(rules.repetitions), len(zones) + len(lines))


def hash_of(rules: Rules, zones: Sequence[Zone], lines: Sequence[Line]) -> str:
    """Identifies rules with the zones and lines that they refer to; empty if there are no rules."""
    if not rules:
        return ""
    return hashlib.sha256(repr((rules, tuple(zones), tuple(lines))).encode()).hexdigest()[:16]
