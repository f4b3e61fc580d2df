"""Applies the rules of one stream to its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.ops.polygons import contains
from engines.poses import Doubles, Poses
from engines.skeletons import Skeleton, convert_keypoints
from service.rules import fall, posture, repetitions, speed
from service.rules.definition import Rules, indices
from service.rules.geometry import MIN_SCORE, BodyShape, angles
from service.rules.results import BodyResults
from service.rules.state import RulesState, rows
from service.tracking.events import TrackingEvent
from service.tracking.places import feet
from service.tracking.zones import Line, Zone

_COUNTED = {"enter": 0, "leave": 1, "left": 0, "right": 1}
"""The column of the counts, by the kind of an event at a zone or the direction of one at a line."""


class BodyRules:
    """The rules of one stream, with the people whom they concern.

    All people are looked at together, as arrays. Raises ValueError if the model's skeleton lacks keypoints.
    """

    def __init__(
        self, rules: Rules, skeleton: Skeleton, zones: Sequence[Zone] = (), lines: Sequence[Line] = ()
    ) -> None:
        rules.check_skeleton(skeleton)
        self._rules = rules
        self._joints = rules.joints
        self._places = [*(zone.name for zone in zones), *(line.name for line in lines)]
        self._zones = len(zones)
        ignored = rules.fall.ignore_zones if rules.fall else ()
        self._ignored = [np.array(zone.polygon) for zone in zones if zone.name in ignored]
        if self._joints is not None:
            self._angles = indices(self._joints, rules.angles)
            self._exercises = indices(self._joints, [repetition.angle for repetition in rules.repetitions])
        self._low = np.array([repetition.low for repetition in rules.repetitions])
        self._high = np.array([repetition.high for repetition in rules.repetitions])
        self._state = RulesState.initial(rules, zones, lines)
        self._people, self._counts = self._state.people, self._state.counts

    def state(self) -> RulesState:
        """Return the state for `restore`. It does not change later."""
        return RulesState(self._state.hash, self._people, self._counts)

    def restore(self, state: RulesState) -> None:
        """Continue from a state, unless it is of other rules, zones or lines."""
        if state.hash == self._state.hash:
            self._people, self._counts = state.people, state.counts

    def update(
        self,
        poses: Poses,
        width: int,
        height: int,
        timestamp: float,
        *,
        events: Sequence[TrackingEvent] = (),
        occupancy: Sequence[int] = (),
        known: NDArray[np.int64] | None = None,
    ) -> tuple[BodyResults, list[TrackingEvent]]:
        """Return what the rules say about the people of a frame of `width` x `height` pixels, and its events.

        events: at zones and lines. occupancy: the number of people in each zone. known: the ids of people who may come
        back; all others who are not in `poses` are forgotten. timestamp: seconds, never decreasing.
        """
        self._count(events)
        rules = self._rules
        ids = np.full(len(poses), -1) if poses.ids is None else poses.ids
        index = np.flatnonzero(ids >= 0)
        people = self._rows(ids[index])
        told: list[TrackingEvent] = []
        members: dict[str, Any] = {}
        if self._joints is not None:
            points, scores = convert_keypoints(poses.keypoints, poses.keypoint_scores, poses.skeleton, self._joints)
            seen = scores >= MIN_SCORE
            if rules.angles:
                members |= self._angles_of(poses, points, seen)
            if rules.needs_posture:
                shape = BodyShape.of(points[index] / np.float64(height), seen[index], self._joints)
                told += self._bodies(people, shape, timestamp, np.array([height / width, 1.0]))
                if rules.posture:
                    members["postures"] = _spread(people["posture"], index, len(poses), posture.UNKNOWN)
                    members["confidences"] = _spread(posture.confidence(people), index, len(poses), 0.0)
            if rules.repetitions:
                degrees = angles(points[index], seen[index], self._exercises)
                done = repetitions.update(people, degrees, self._low, self._high, timestamp)
                told += self._repeated(people, done, timestamp)
                members["repetitions"] = _spread(people["count"], index, len(poses), -1)
        if rules.ground is not None:
            places = rules.ground.metres(feet(poses)[index] / (width, height))
            members["speeds"] = _spread(speed.update(people, places, timestamp), index, len(poses), np.nan)
        self._remember(people, known)
        return self._results(members, occupancy), told

    def _results(self, members: Mapping[str, Any], occupancy: Sequence[int]) -> BodyResults:
        rules = self._rules
        inside = dict(zip(self._places, occupancy, strict=False)) if rules.occupancy else None
        return BodyResults(
            names=tuple(angle.name for angle in rules.angles),
            exercises=tuple(repetition.name for repetition in rules.repetitions),
            occupancy=inside,
            counts=self._counted() if rules.counts else None,
            **members,
        )

    def _angles_of(self, poses: Poses, points: NDArray[np.float32], seen: NDArray[np.bool_]) -> dict[str, Doubles]:
        found = {"angles": angles(points, seen, self._angles)}
        if poses.keypoints_3d is not None and self._joints is not None:
            metres, _ = convert_keypoints(poses.keypoints_3d, poses.keypoint_scores, poses.skeleton, self._joints)
            found["angles_3d"] = angles(metres, seen, self._angles)
        return found

    def _bodies(self, people: NDArray[Any], shape: BodyShape, now: float, to_shares: Doubles) -> list[TrackingEvent]:
        """Update postures and falls. to_shares: (2,), turns heights of the frame into shares of it."""
        told: list[TrackingEvent] = []
        before = people["posture"].copy()
        changed = posture.update(people, shape, now)
        if self._rules.posture:
            names, confidences = posture.POSTURES, posture.confidence(people)
            for n in np.flatnonzero(changed):
                values: dict[str, float | str] = {
                    "posture": names[people["posture"][n]],
                    "from": names[before[n]],
                    "confidence": float(confidences[n]),
                }
                told.append(TrackingEvent("posture", "posture", int(people["id"][n]), now, values=values))
        if self._rules.fall is not None:
            fallen = fall.update(people, shape, now)
            for polygon in self._ignored:
                fallen &= ~contains(polygon, shape.hips * to_shares)
            for n in np.flatnonzero(fallen):
                peak = {"speed": float(people["peak"][n])}
                told.append(TrackingEvent("fall", "fall", int(people["id"][n]), now, values=peak))
        return told

    def _repeated(self, people: NDArray[Any], done: NDArray[np.bool_], now: float) -> list[TrackingEvent]:
        exercises = self._rules.repetitions
        return [
            TrackingEvent(
                "repetition", exercises[r].name, int(people["id"][n]), now, values={"count": int(people["count"][n, r])}
            )
            for n, r in np.argwhere(done)
        ]

    def _count(self, events: Sequence[TrackingEvent]) -> None:
        """Count the people who have entered or left a zone, or crossed a line."""
        if not self._rules.counts:
            return
        column = [(event.name, _COUNTED.get(event.direction or event.kind)) for event in events]
        counts = self._counts.copy()
        for name, side in column:
            if side is not None:
                counts[self._places.index(name), side] += 1
        self._counts = counts

    def _counted(self) -> dict[str, dict[str, int]]:
        names = [("entered", "left")] * self._zones + [("to_left", "to_right")] * (len(self._places) - self._zones)
        rows = zip(self._places, names, self._counts.tolist(), strict=True)
        return {place: dict(zip(sides, row, strict=True)) for place, sides, row in rows}

    def _rows(self, ids: NDArray[np.int64]) -> NDArray[Any]:
        """Return a copy of the states of these people, new ones for those who are new."""
        people = rows(ids, len(self._rules.repetitions))
        if len(self._people) and len(ids):
            same = ids[:, None] == self._people["id"]
            there = same.any(axis=1)
            people[there] = self._people[same.argmax(axis=1)[there]]
        return people

    def _remember(self, people: NDArray[Any], known: NDArray[np.int64] | None) -> None:
        away = self._people[~np.isin(self._people["id"], people["id"])]
        if known is not None:
            away = away[np.isin(away["id"], known)]
        self._people = np.concatenate([people, away]) if len(away) else people


def _spread(values: NDArray[Any], index: NDArray[np.intp], count: int, otherwise: float) -> NDArray[Any]:
    """Return an array for `count` people, with the values of those at `index`."""
    spread = np.full((count, *values.shape[1:]), otherwise, values.dtype)
    spread[index] = values
    return spread
