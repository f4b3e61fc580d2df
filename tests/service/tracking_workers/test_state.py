"""Zones and lines are identified by a hash of their definition."""

from __future__ import annotations

from service.tracking.zones import Line, Zone
from service.tracking_workers.state import TrackingOptions


def test_the_hash_identifies_zones_and_lines() -> None:
    square = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    assert TrackingOptions().zones_hash == ""
    here, there = TrackingOptions(zones=(Zone("a", square),)), TrackingOptions(zones=(Zone("b", square),))
    assert here.zones_hash == TrackingOptions(zones=(Zone("a", square),)).zones_hash
    line = TrackingOptions(lines=(Line("a", (0, 0), (1, 1)),))
    assert len({here.zones_hash, there.zones_hash, line.zones_hash}) == 3


def test_the_hash_is_the_one_that_other_versions_store() -> None:
    square = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    assert TrackingOptions(zones=(Zone("a", square),)).zones_hash == "92998ae13b879497"
