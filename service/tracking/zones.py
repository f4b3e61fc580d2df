"""Events of tracked people at user-defined zones and lines: enter, leave and dwell in a zone, cross a line.

A person's position is that of the feet (the middle of the box's lower edge, `places.feet`). Coordinates are relative:
x and y are 0 at the frame's upper left corner and 1 at its lower right corner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from engines.poses import Doubles, Poses
from service.tracking.events import TrackingEvent
from service.tracking.places import Point, crosses, depth_inside, feet, on_border, thickness, to_the_right

_NARROW = 0.5
"""Largest margin as a share of a zone's thickness, so that narrow zones can be entered."""
_IN_SIGHT_S = 1.0
"""People who were seen so recently count as present: somebody may be covered for a moment, or get another id."""
_INSET = 1e-3
"""Pixels by which a point on the frame's border is moved into the frame, so that it is inside the zones there."""


@dataclass(frozen=True, slots=True)
class Zone:
    """A polygon. polygon: the corners in order; the last is connected to the first.

    dwell_seconds: length of a stay after which there is a dwell event, once per visit; None for no event.
    Raises ValueError if it is not a polygon.
    """

    name: str
    polygon: tuple[Point, ...]
    dwell_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_points(f"zone {self.name!r}", self.name, self.polygon)
        if len(self.polygon) < 3:
            raise ValueError(f"zone {self.name!r} has {len(self.polygon)} points; a polygon needs at least 3")
        if not thickness(np.array(self.polygon, np.float64)) > 0:
            raise ValueError(f"zone {self.name!r} has no area; its points must not lie on one line")
        if self.dwell_seconds is not None and not (isfinite(self.dwell_seconds) and self.dwell_seconds > 0):
            raise ValueError(f"zone {self.name!r}: dwell_seconds must be more than 0, not {self.dwell_seconds}")


@dataclass(frozen=True, slots=True)
class Line:
    """A line to cross. Left and right are as seen on the screen from `start` to `end`.

    Raises ValueError if both are equal.
    """

    name: str
    start: Point
    end: Point

    def __post_init__(self) -> None:
        _check_points(f"line {self.name!r}", self.name, (self.start, self.end))
        if self.start == self.end:
            raise ValueError(f"line {self.name!r} starts and ends in the same point")


@dataclass(frozen=True, slots=True)
class Visit:
    """A person's stay in a zone. since: timestamp in seconds. dwelt: True after its dwell event."""

    since: float
    dwelt: bool = False


@dataclass(frozen=True, slots=True)
class Presence:
    """The state of person `id`. seen: timestamp of the last pose in seconds.

    visits: the stay in each zone; None if outside. places: for each line, the last relative position of the feet that
    was clear of it; None if there was none.
    """

    id: int
    seen: float
    visits: tuple[Visit | None, ...]
    places: tuple[Point | None, ...]


@dataclass(frozen=True, slots=True)
class ZonesState:
    """The state of Zones."""

    present: tuple[Presence, ...] = ()


class Zones:
    """The zones and lines of one stream.

    People count as inside, or on the other side, only when they are `margin` beyond the border (as a share of the
    frame's shorter side; less in narrow zones, none on the frame's border), so that jitter at a border causes no
    events. A person who is first seen inside a zone enters it at that moment. People who are out of sight for longer
    than `lost_seconds` leave; until then a visit continues. Raises ValueError if names are not unique or a setting is
    invalid.
    """

    def __init__(
        self, zones: Iterable[Zone] = (), lines: Iterable[Line] = (), *, margin: float = 0.01, lost_seconds: float = 5.0
    ) -> None:
        self.zones = tuple(zones)
        self.lines = tuple(lines)
        names = [zone.name for zone in self.zones] + [line.name for line in self.lines]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several zones or lines are called {twice[0]!r}; give each a name of its own")
        if not 0 <= margin <= 0.25:
            raise ValueError(f"margin must be in 0..0.25, not {margin}")
        if not lost_seconds >= 0:
            raise ValueError(f"lost_seconds must be at least 0, not {lost_seconds}")
        self._margin = margin
        self._lost_seconds = lost_seconds
        self._present: dict[int, Presence] = {}

    def update(self, poses: Poses, width: int, height: int, timestamp: float) -> list[TrackingEvent]:
        """Return the events between the last frame and this one, which has `width` x `height` pixels.

        Ignores people without an id or with id -1. timestamp: seconds.
        """
        events: list[TrackingEvent] = []
        if not (self.zones or self.lines):
            return events
        if poses.ids is not None and len(poses):
            points = feet(poses)
            depths = [self._depth(zone, points, width, height) for zone in self.zones]
            size = (width, height)
            sides = [
                to_the_right(points, np.array(line.start) * size, np.array(line.end) * size) for line in self.lines
            ]
            nowhere = (None,) * len(self.zones), (None,) * len(self.lines)
            for n in np.flatnonzero((poses.ids >= 0) & np.isfinite(points).all(axis=1)):
                number = int(poses.ids[n])
                before = self._present.get(number) or Presence(number, timestamp, *nowhere)
                visits = tuple(
                    self._visit(zone, visit, number, float(depth[n]), margin, timestamp, events)
                    for zone, visit, (depth, margin) in zip(self.zones, before.visits, depths, strict=True)
                )
                rights = [float(right[n]) for right in sides]
                places = self._places(before, points[n], rights, width, height, timestamp, events)
                self._present[number] = Presence(number, timestamp, visits, places)
        self._leave(timestamp, events)
        return events

    def occupancy(self, now: float) -> list[int]:
        """Return the number of people in each zone who were seen within the last second before `now`."""
        present = [person for person in self._present.values() if now - person.seen <= _IN_SIGHT_S]
        return [sum(person.visits[n] is not None for person in present) for n in range(len(self.zones))]

    def state(self) -> ZonesState:
        """Return the state for `restore`."""
        return ZonesState(tuple(self._present.values()))

    def restore(self, state: ZonesState) -> None:
        """Replace the state. Raises ValueError if `state` is of other zones and lines."""
        for person in state.present:
            if (len(person.visits), len(person.places)) != (len(self.zones), len(self.lines)):
                raise ValueError(
                    f"the state is of {len(person.visits)} zones and {len(person.places)} lines, not of "
                    f"{len(self.zones)} and {len(self.lines)}"
                )
        self._present = {person.id: person for person in state.present}

    def _depth(self, zone: Zone, points: Doubles, width: int, height: int) -> tuple[Doubles, float]:
        """How deep inside the zone the points are, in pixels, and the zone's margin.

        A side on the frame's border has no margin: nobody is seen to leave through it, and the feet of somebody who is
        cut off by the border lie on it or beyond.
        """
        corners = np.array(zone.polygon)
        polygon = corners * (width, height)
        visible = np.clip(points, _INSET, np.array((width, height)) - _INSET)
        depth = depth_inside(visible, polygon, ~on_border(corners))
        return depth, min(self._margin * min(width, height), _NARROW * thickness(polygon))

    @staticmethod
    def _visit(
        zone: Zone,
        visit: Visit | None,
        number: int,
        depth: float,
        margin: float,
        now: float,
        events: list[TrackingEvent],
    ) -> Visit | None:
        if visit is None:
            if depth < margin:
                return None
            events.append(TrackingEvent("enter", zone.name, number, now))
            return Visit(now)
        stayed = now - visit.since
        if depth < -margin:
            events.append(TrackingEvent("leave", zone.name, number, now, seconds=stayed))
            return None
        if zone.dwell_seconds is not None and not visit.dwelt and stayed >= zone.dwell_seconds:
            events.append(TrackingEvent("dwell", zone.name, number, now, seconds=stayed))
            return Visit(visit.since, dwelt=True)
        return visit

    def _places(
        self,
        before: Presence,
        point: Doubles,
        rights: Sequence[float],
        width: int,
        height: int,
        now: float,
        events: list[TrackingEvent],
    ) -> tuple[Point | None, ...]:
        clear = self._margin * min(width, height)
        here = (float(point[0]) / width, float(point[1]) / height)
        places: list[Point | None] = []
        for line, place, right in zip(self.lines, before.places, rights, strict=True):
            if right == 0 or abs(right) < clear:
                places.append(place)  # too near the line to decide
                continue
            places.append(here)
            if place is not None and crosses(place, here, line.start, line.end):
                side = "right" if right > 0 else "left"
                events.append(TrackingEvent("cross", line.name, before.id, now, direction=side))
        return tuple(places)

    def _leave(self, now: float, events: list[TrackingEvent]) -> None:
        """Remove people who were out of sight for too long."""
        for person in [p for p in self._present.values() if now - p.seen > self._lost_seconds]:
            del self._present[person.id]
            for zone, visit in zip(self.zones, person.visits, strict=True):
                if visit is not None:
                    events.append(TrackingEvent("leave", zone.name, person.id, now, seconds=person.seen - visit.since))


def _check_points(what: str, name: str, points: Sequence[Point]) -> None:
    if not name:
        raise ValueError(f"{what} needs a name")
    for point in points:
        if len(point) != 2 or not all(isfinite(value) and 0 <= value <= 1 for value in point):
            raise ValueError(f"{what}: each point is x, y in 0..1 (shares of the frame), not {point}")
