"""Ids, expected boxes, events and smoothing of one stream, and continuing from its state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engines.skeletons import COCO_17, HAND_21, SKELETONS
from service.rules.definition import FallRule, Rules
from service.tracking.smoothing import OneEuroConfig
from service.tracking.zones import Zone
from service.tracking_workers.codec import StateError, pack, unpack
from service.tracking_workers.state import TrackingOptions
from service.tracking_workers.stream_tracker import StreamTracker, initial_state
from tests.service.tracking.people import people

FRAME = np.random.default_rng(5).integers(0, 256, (240, 320, 3)).astype(np.uint8)


def stream_tracker(state: bytes | None = None, **members: Any) -> StreamTracker:
    options = TrackingOptions(**members)
    return StreamTracker(COCO_17, options, pack(initial_state(COCO_17, options)) if state is None else state)


def test_ids_are_kept_by_a_tracker_that_continues_from_the_state() -> None:
    first = stream_tracker()
    result = first.update(people([(80, 120), (240, 120)]), FRAME, 1.0)
    assert result.ids.tolist() == [1, 2]
    assert result.next_id == 3
    other = stream_tracker(result.state)
    assert other.update(people([(240, 120), (80, 120)]), FRAME, 1.1).ids.tolist() == [2, 1]


def test_tracked_people_are_proposed() -> None:
    tracker = stream_tracker()
    tracker.update(people([(160, 120)]), FRAME, 1.0)
    [box] = tracker.propose(FRAME, 1.04).boxes
    assert box[0] < 160 < box[2]
    assert box[1] < 120 < box[3]


def test_extras_events_and_smoothing_are_optional() -> None:
    plain = stream_tracker().update(people([(160, 120)]), FRAME, 1.0)
    assert plain.keypoints is None
    assert plain.events == []
    everywhere = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    full = stream_tracker(extras=True, smoothing=OneEuroConfig(), zones=(everywhere,))
    full.update(people([(160, 120)]), FRAME, 1.0)
    second = full.update(people([(161, 120)]), FRAME, 1.5)
    assert second.ages.tolist() == [0.5]
    assert second.keypoints is not None
    assert 159 < second.keypoints[0, :, 0].mean() < 162


def test_the_numbers_of_events_continue_from_the_state() -> None:
    left = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    tracker, numbers = stream_tracker(zones=(left,)), []
    for n in range(4):
        for x in range(60, 280, 20):
            result = tracker.update(people([(x if n % 2 else 320 - x, 120)]), FRAME, 1 + n + x / 300)
            numbers += [(event.kind, event.number) for event in result.events]
        tracker = stream_tracker(result.state, zones=(left,))
    assert numbers == [("enter", 1), ("leave", 1), ("enter", 2), ("leave", 2)]


def test_rules_cost_nothing_without_any_and_continue_from_the_state() -> None:
    plain = stream_tracker().update(people([(80, 120)]), FRAME, 1.0)
    assert plain.bodies is None
    assert plain.state[4] == 1  # the version of states without rules
    everywhere = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    options: dict[str, Any] = {"zones": (everywhere,), "rules": Rules(occupancy=True, counts=True)}
    first = stream_tracker(**options).update(people([(80, 120), (240, 120)]), FRAME, 1.0)
    second = stream_tracker(first.state, **options).update(people([(81, 120), (239, 120)]), FRAME, 1.1)
    for result in (first, second):
        assert result.bodies is not None
        assert result.bodies.occupancy == {"all": 2}
        assert result.bodies.counts == {"all": {"entered": 2, "left": 0}}
    other = stream_tracker(second.state, **options | {"rules": Rules(counts=True)})
    again = other.update(people([(81, 120), (239, 120)]), FRAME, 1.2)
    assert again.bodies is not None
    assert again.bodies.counts == {"all": {"entered": 0, "left": 0}}  # of other rules
    with pytest.raises(ValueError, match=r"the model's skeleton hand-21 has no left_shoulder"):
        StreamTracker(
            HAND_21, TrackingOptions(rules=Rules(fall=FallRule())), pack(initial_state(HAND_21, TrackingOptions()))
        )


def test_smoothing_continues_from_the_state_exactly() -> None:
    rng = np.random.default_rng(11)
    walk = [people([(100 + 2 * n + rng.normal(0, 3), 120), (240, 120 + rng.normal(0, 3))]) for n in range(8)]
    whole = stream_tracker(smoothing=OneEuroConfig())
    parted = stream_tracker(smoothing=OneEuroConfig())
    for n, poses in enumerate(walk):
        through = whole.update(poses, FRAME, 1 + n / 10)
        after = parted.update(poses, FRAME, 1 + n / 10)
        parted = stream_tracker(after.state, smoothing=OneEuroConfig())
        assert through.keypoints is not None
        assert after.keypoints is not None
        np.testing.assert_array_equal(after.keypoints, through.keypoints)
        assert n == 0 or np.abs(after.keypoints - poses.keypoints).max() > 0.2
    of_an_older_server = pack(replace(unpack(after.state), smoothing=None))
    unsmoothed = stream_tracker(of_an_older_server, smoothing=OneEuroConfig())
    again = unsmoothed.update(walk[0], FRAME, 1.8)
    assert again.keypoints is not None
    np.testing.assert_array_equal(again.keypoints, walk[0].keypoints)


def test_the_parameters_of_smoothing_are_used_also_after_continuing() -> None:
    def lag(config: OneEuroConfig) -> float:
        tracker = stream_tracker(smoothing=config)
        for n in range(6):
            result = tracker.update(people([(100 + 8 * n, 120)]), FRAME, 1 + n / 10)
            tracker = stream_tracker(result.state, smoothing=config)
        assert result.keypoints is not None
        return 140 - float(result.keypoints[0, :, 0].mean())

    assert lag(OneEuroConfig(min_cutoff=0.2, beta=0)) > 2 * lag(OneEuroConfig(min_cutoff=2, beta=0)) > 2


def test_a_state_with_smoothing_can_be_used_without() -> None:
    result = stream_tracker(smoothing=OneEuroConfig()).update(people([(160, 120)]), FRAME, 1.0)
    plain = stream_tracker(result.state).update(people([(160, 120)]), FRAME, 1.1)
    assert plain.ids.tolist() == [1]
    assert unpack(plain.state).smoothing is None


def test_other_bytes_and_states_of_other_skeletons_are_refused() -> None:
    with pytest.raises(StateError, match="no state"):
        stream_tracker(b"something else")
    of_others = pack(initial_state(SKELETONS["blazepose-33"], TrackingOptions()))
    with pytest.raises(ValueError, match="blazepose-33"):
        stream_tracker(of_others)
