"""Zones and lines: each event is reported once, and jitter causes no events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace

import numpy as np
import pytest

from service.tracking.events import TrackingEvent
from service.tracking.places import depth_inside, thickness
from service.tracking.zones import Line, Presence, Visit, Zone, Zones, ZonesState
from tests.service.tracking.walkers import standing

WIDTH, HEIGHT = 1000, 500
ROOM = Zone("room", ((0.4, 0.2), (0.6, 0.2), (0.6, 0.8), (0.4, 0.8)))  # x 400..600, y 100..400
DOOR = Line("door", (0.5, 0.9), (0.5, 0.1))  # upwards at x = 500, y 50..450


def walk(
    zones: Zones, path: Iterable[tuple[float, float]], *, start: float = 0.0, step: float = 0.1
) -> list[TrackingEvent]:
    """Move person 7 along `path`, one point per frame."""
    events = []
    for n, place in enumerate(path):
        events += zones.update(standing({7: place}), WIDTH, HEIGHT, start + n * step)
    return events


def across(x0: float, x1: float, y: float = 250.0, steps: int = 21) -> list[tuple[float, float]]:
    return [(float(x), y) for x in np.linspace(x0, x1, steps)]


def test_a_person_who_walks_through_enters_and_leaves() -> None:
    events = walk(Zones([ROOM]), across(300, 700))
    assert [(e.kind, e.name, e.id) for e in events] == [("enter", "room", 7), ("leave", "room", 7)]
    entered, left = events
    assert left.seconds == pytest.approx(left.timestamp - entered.timestamp)
    assert left.seconds == pytest.approx(1.0, abs=0.2)


def test_a_person_who_stays_dwells_once_per_visit() -> None:
    zones = Zones([replace(ROOM, dwell_seconds=1.0)])
    stay = [(500.0, 250.0)] * 30
    kinds = [e.kind for e in walk(zones, [*stay, (900.0, 250.0), *stay])]
    assert kinds == ["enter", "dwell", "leave", "enter", "dwell"]


def test_the_feet_count_not_the_head() -> None:
    tall = standing({7: (500.0, 450.0)}, height=300)  # the feet are below the zone, everything else is inside
    assert Zones([ROOM]).update(tall, WIDTH, HEIGHT, 0.0) == []


@pytest.mark.parametrize("seed", range(5))
def test_jitter_at_a_border_is_no_event(seed: int) -> None:
    rng = np.random.default_rng(seed)
    zones = Zones([ROOM], [DOOR])
    border = [(float(400 + rng.uniform(-4, 4)), 250.0) for _ in range(200)]
    assert len(walk(zones, border)) <= 1  # the margin is 5 pixels here
    door = [(float(500 + rng.uniform(-4, 4)), 250.0) for _ in range(200)]
    assert [e for e in walk(zones, [(480.0, 250.0), *door], start=100) if e.kind == "cross"] == []


def test_a_narrow_zone_can_be_entered() -> None:
    strip = Zone("strip", ((0.5, 0.0), (0.506, 0.0), (0.506, 1.0), (0.5, 1.0)))
    assert [e.kind for e in walk(Zones([strip], margin=0.1), across(490, 516, steps=27))] == ["enter", "leave"]


@pytest.mark.parametrize("feet", [(500.0, 500.0), (500.0, 520.0), (999.9, 499.9), (1000.0, 500.0)])
def test_feet_on_the_border_of_the_frame_or_beyond_are_in_a_zone_that_reaches_it(feet: tuple[float, float]) -> None:
    floor = Zone("floor", ((0.3, 0.6), (1.0, 0.6), (1.0, 1.0), (0.2, 1.0)))
    frame = Zone("frame", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    zones = Zones([floor, frame])
    assert [(e.kind, e.name) for e in walk(zones, [feet] * 3)] == [("enter", "floor"), ("enter", "frame")]
    assert [(e.kind, e.name) for e in walk(zones, [(500.0, 200.0)], start=1)] == [("leave", "floor")]


def test_a_zone_that_does_not_reach_the_border_keeps_its_margin_there() -> None:
    near = Zone("near", ((0.2, 0.6), (0.8, 0.6), (0.8, 0.99), (0.2, 0.99)))
    assert walk(Zones([near]), [(500.0, 500.0), (500.0, 494.0), (500.0, 492.0)]) == []
    assert [e.kind for e in walk(Zones([near]), [(500.0, 489.0)])] == ["enter"]


def test_a_line_is_crossed_to_its_right_and_to_its_left() -> None:
    zones = Zones(lines=[DOOR])
    assert [(e.kind, e.direction) for e in walk(zones, across(450, 550))] == [("cross", "right")]
    assert [(e.kind, e.direction) for e in walk(zones, across(550, 450), start=10)] == [("cross", "left")]


def test_a_line_is_not_crossed_beyond_its_ends() -> None:
    assert walk(Zones(lines=[DOOR]), across(450, 550, y=480)) == []
    around = [(450.0, 250.0), (450.0, 480.0), (550.0, 480.0), (550.0, 250.0)]
    assert walk(Zones(lines=[DOOR]), around) == []


@pytest.mark.parametrize("frames", [2, 3, 8, 60])
def test_a_crossing_over_several_frames_counts_once(frames: int) -> None:
    assert len(walk(Zones(lines=[DOOR]), across(400, 600, steps=frames))) == 1


def test_a_slanted_line_has_the_sides_seen_on_the_screen() -> None:
    slope = Line("slope", (0.1, 0.1), (0.9, 0.9))  # seen along the line, the lower left corner is on the right
    (event,) = walk(Zones(lines=[slope]), [(800.0, 100.0), (200.0, 400.0)])
    assert event.direction == "right"


def test_a_person_out_of_sight_leaves_after_a_while() -> None:
    zones = Zones([ROOM], lost_seconds=2.0)
    walk(zones, [(500.0, 250.0)] * 11)
    assert zones.update(standing({}), WIDTH, HEIGHT, 2.5) == []
    assert zones.update(standing({}), WIDTH, HEIGHT, 3.5) == [TrackingEvent("leave", "room", 7, 3.5, seconds=1.0)]
    assert zones.state() == ZonesState()


def test_people_in_a_zone_are_counted_while_they_are_in_sight() -> None:
    zones = Zones([ROOM, replace(ROOM, name="too")])
    assert zones.occupancy(0.0) == [0, 0]
    zones.update(standing({1: (500.0, 250.0), 2: (510.0, 250.0), 3: (10.0, 250.0)}), WIDTH, HEIGHT, 0.0)
    zones.update(standing({2: (510.0, 250.0)}), WIDTH, HEIGHT, 0.9)
    assert zones.occupancy(0.9) == [2, 2]
    zones.update(standing({2: (510.0, 250.0)}), WIDTH, HEIGHT, 1.1)
    assert zones.occupancy(1.1) == [1, 1]


def test_a_short_gap_neither_ends_a_visit_nor_hides_a_crossing() -> None:
    zones = Zones([ROOM], [DOOR])
    walk(zones, [(450.0, 250.0)])
    assert [e.kind for e in walk(zones, [(550.0, 250.0)], start=1.5)] == ["cross"]


def test_people_are_independent_and_unconfirmed_ones_are_ignored() -> None:
    zones = Zones([ROOM])
    inside = (500.0, 250.0)
    events = zones.update(standing({1: inside, 2: (100.0, 100.0), -1: inside, 3: inside}), WIDTH, HEIGHT, 0.0)
    assert [e.id for e in events] == [1, 3]
    assert zones.update(replace(standing({4: inside}), ids=None), WIDTH, HEIGHT, 0.1) == []


def test_memory_is_bounded_by_the_people_seen_recently() -> None:
    zones = Zones([ROOM], [DOOR])
    for n in range(2000):
        zones.update(standing({n: (500.0, 250.0)}), WIDTH, HEIGHT, n / 10)
    assert len(zones.state().present) <= 51


@pytest.mark.parametrize("stop", [3, 9, 14])
def test_a_restored_state_gives_the_same_events(stop: int) -> None:
    def fresh() -> Zones:
        return Zones([replace(ROOM, dwell_seconds=0.5)], [DOOR])

    path = across(300, 700)
    whole = walk(fresh(), path)
    first, second = fresh(), fresh()
    told = walk(first, path[:stop])
    second.restore(first.state())
    assert told + walk(second, path[stop:], start=stop * 0.1) == whole
    assert {e.kind for e in whole} == {"enter", "dwell", "cross", "leave"}


def test_the_state_is_plain_data() -> None:
    zones = Zones([ROOM], [DOOR])
    walk(zones, across(300, 450))
    json.dumps(asdict(zones.state()))


def test_a_state_of_other_zones_is_refused() -> None:
    state = ZonesState((Presence(1, 0.0, (Visit(0.0),), ()),))
    with pytest.raises(ValueError, match="1 zones and 0 lines, not of 1 and 1"):
        Zones([ROOM], [DOOR]).restore(state)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Zone("a", ((0, 0), (1, 1))), "zone 'a' has 2 points; a polygon needs at least 3"),
        (lambda: Zone("a", ((0, 0), (0.5, 0.5), (1, 1))), "has no area"),
        (lambda: Zone("a", ((0, 0), (640, 0), (0, 480))), r"0\.\.1 \(shares of the frame\), not \(640, 0\)"),
        (lambda: Zone("a", ((0, 0), (1, float("nan")), (0, 1))), "nan"),
        (lambda: Zone("", ROOM.polygon), "needs a name"),
        (lambda: Zone("a", ROOM.polygon, dwell_seconds=0), "dwell_seconds must be more than 0"),
        (lambda: Line("b", (0.5, 0.5), (0.5, 0.5)), "line 'b' starts and ends in the same point"),
        (lambda: Line("b", (0.5, 0.5), (0.5, 2)), r"line 'b': each point is x, y in 0\.\.1"),
        (lambda: Zones([ROOM, ROOM]), "several zones or lines are called 'room'"),
        (lambda: Zones([ROOM], [replace(DOOR, name="room")]), "called 'room'"),
        (lambda: Zones([ROOM], margin=1), "margin"),
        (lambda: Zones([ROOM], lost_seconds=-1), "lost_seconds"),
    ],
)
def test_invalid_zones_are_refused_clearly(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_depth_inside_agrees_with_opencv_on_a_polygon_with_a_notch() -> None:
    import cv2

    polygon = np.array([[0, 0], [100, 0], [100, 100], [50, 30], [0, 100]], np.float64)
    points = np.random.default_rng(0).uniform(-20, 120, (300, 2))
    expected = [cv2.pointPolygonTest(polygon.astype(np.float32), (x, y), True) for x, y in points.tolist()]
    np.testing.assert_allclose(depth_inside(points, polygon), expected, atol=1e-3)


def test_thickness_is_half_a_strips_width() -> None:
    strip = np.array([[0, 0], [1000, 0], [1000, 10], [0, 10]], np.float64)
    assert thickness(strip) == pytest.approx(5, rel=0.02)
