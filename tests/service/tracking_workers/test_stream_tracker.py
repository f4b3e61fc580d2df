"""One stream's people: who they are, where they are expected, and a state that another follower goes on from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engines.skeletons import COCO_17, SKELETONS
from service.streams.codec import StateError, pack, unpack
from service.streams.protocol import Hello
from service.tracking.zones import Zone
from service.tracking_workers.stream_tracker import StreamTracker, beginning
from tests.service.tracking.people import people

FRAME = np.random.default_rng(5).integers(0, 256, (240, 320, 3)).astype(np.uint8)


def stream_tracker(state: bytes | None = None, **wishes: object) -> StreamTracker:
    hello = Hello(**wishes)  # type: ignore[arg-type]
    return StreamTracker(COCO_17, hello, pack(beginning(COCO_17, hello)) if state is None else state)


def test_people_keep_their_ids_also_with_who_goes_on() -> None:
    first = stream_tracker()
    seen = first.follow(people([(80, 120), (240, 120)]), FRAME, 1.0)
    assert seen.ids.tolist() == [1, 2]
    assert seen.next_id == 3
    other = stream_tracker(seen.state)
    assert other.follow(people([(240, 120), (80, 120)]), FRAME, 1.1).ids.tolist() == [2, 1]


def test_it_says_where_people_are_expected() -> None:
    following = stream_tracker()
    following.follow(people([(160, 120)]), FRAME, 1.0)
    [box] = following.expected(FRAME, 1.04)
    assert box[0] < 160 < box[2]
    assert box[1] < 120 < box[3]


def test_extras_events_and_smoothing_are_for_who_asks() -> None:
    plain = stream_tracker().follow(people([(160, 120)]), FRAME, 1.0)
    assert plain.keypoints is None
    assert plain.events == []
    everywhere = Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    asked = stream_tracker(extras=True, smoothing=True, zones=(everywhere,))
    asked.follow(people([(160, 120)]), FRAME, 1.0)
    second = asked.follow(people([(161, 120)]), FRAME, 1.5)
    assert second.ages.tolist() == [0.5]
    assert second.keypoints is not None
    assert 159 < second.keypoints[0, :, 0].mean() < 162


def test_who_goes_on_smooths_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(11)
    walk = [people([(100 + 2 * n + rng.normal(0, 3), 120), (240, 120 + rng.normal(0, 3))]) for n in range(8)]
    whole = stream_tracker(smoothing=True)
    parted = stream_tracker(smoothing=True)
    for n, poses in enumerate(walk):
        through = whole.follow(poses, FRAME, 1 + n / 10)
        after = parted.follow(poses, FRAME, 1 + n / 10)
        parted = stream_tracker(after.state, smoothing=True)
        assert through.keypoints is not None
        assert after.keypoints is not None
        np.testing.assert_array_equal(after.keypoints, through.keypoints)
        assert n == 0 or np.abs(after.keypoints - poses.keypoints).max() > 0.2
    anew = stream_tracker(pack(replace(unpack(after.state), smoothing=None)), smoothing=True)  # as of an older server
    again = anew.follow(walk[0], FRAME, 1.8)
    assert again.keypoints is not None
    np.testing.assert_array_equal(again.keypoints, walk[0].keypoints)


def test_a_state_with_smoothing_serves_a_stream_without() -> None:
    seen = stream_tracker(smoothing=True).follow(people([(160, 120)]), FRAME, 1.0)
    plain = stream_tracker(seen.state).follow(people([(160, 120)]), FRAME, 1.1)
    assert plain.ids.tolist() == [1]
    assert unpack(plain.state).smoothing is None


def test_bytes_that_are_no_state_are_refused() -> None:
    with pytest.raises(StateError, match="no state"):
        stream_tracker(b"something else")
    of_others = pack(beginning(SKELETONS["blazepose-33"], Hello()))
    with pytest.raises(ValueError, match="blazepose-33"):
        stream_tracker(of_others)
