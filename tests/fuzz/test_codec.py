"""Arbitrary bytes are either refused as a state, or a stream can continue from them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from engines.skeletons import COCO_17
from service.rules.definition import AngleRule, FallRule, RepetitionRule, Rules
from service.rules.ground import GroundPlane
from service.rules.state import RulesState
from service.tracking.smoothing import OneEuroConfig
from service.tracking.zones import Line, Zone
from service.tracking_workers.codec import StateError, pack, unpack
from service.tracking_workers.state import StreamState, TrackingOptions
from service.tracking_workers.stream_tracker import StreamTracker
from tests.fuzz.budget import fuzz
from tests.service.tracking.people import people
from tests.stream_states import NOW, SOMEBODY, join_state, rules_state, smoothing, split_state, stream_state

OPTIONS = TrackingOptions(
    smoothing=OneEuroConfig(),
    extras=True,
    zones=(
        Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), dwell_seconds=0.1),
        Zone("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))),
    ),
    lines=(Line("middle", (0.5, 0.0), (0.5, 1.0)),),
    rules=Rules(
        posture=True,
        fall=FallRule(("left",)),
        repetitions=tuple(
            RepetitionRule(side, AngleRule.named(f"{side}_knee"), 100, 160) for side in ("left", "right")
        ),
        occupancy=True,
        counts=True,
        ground=GroundPlane(((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 4.0, 0.0), (1.0, 1.0, 4.0, 3.0), (0.0, 1.0, 0.0, 3.0))),
    ),
)
FRAMES = [np.random.default_rng(n).integers(0, 256, (96, 128, 3)).astype(np.uint8) for n in range(2)]
GOOD = pack(
    replace(
        stream_state(3, zones=SOMEBODY),
        smoothing=smoothing(3),
        zones_hash=OPTIONS.zones_hash,
        numbers={("enter", "all"): {1: 2, 7: 1}},
        rules=replace(rules_state(), hash=RulesState.initial(OPTIONS.rules, OPTIONS.zones, OPTIONS.lines).hash),
    )
)
VERSION, ABOUT, ARRAYS = split_state(GOOD)

numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-2, 300),
    st.floats(),
    st.floats(NOW - 100, NOW + 100),
    st.booleans(),
    st.none(),
)
anything = st.recursive(
    st.one_of(numbers, st.text(max_size=20), st.binary(max_size=20)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=10,
)
floats = st.one_of(
    st.floats(width=32), st.sampled_from([0.0, -0.0, 1.0, 1e9, -1e9, 1e-38, NOW, NOW - 60, float("nan"), float("inf")])
)


def read(data: bytes) -> StreamState | str:
    """Return a state, or why the bytes are not one."""
    try:
        return unpack(data)
    except StateError as error:
        return str(error)


def check(data: bytes) -> bool:
    """Return True if a state is valid, after tracking three frames from it as the server does."""
    state = read(data)
    if isinstance(state, str):
        assert len(state) < 300
        return False
    if state.tracker.skeleton != COCO_17.name or not state.fits(OPTIONS):
        return False
    stream_tracker = StreamTracker(COCO_17, OPTIONS, pack(state))
    now = NOW if np.isnan(state.tracker.timestamp) else state.tracker.timestamp
    with np.errstate(all="ignore"):
        for n in range(3):
            frame = FRAMES[n % 2]
            stream_tracker.propose(frame, now + 0.1 * n)
            found = people([(40 + n, 50), (90 - n, 50)])
            tracked = stream_tracker.update(found, frame, now + 0.1 * n)
            assert len(tracked.ids) == 2
            assert tracked.bodies is not None
            assert len(tracked.bodies.people_documents(2)) == 2
    return True


def test_a_valid_state_is_used() -> None:
    assert check(GOOD)


@fuzz(100)
@given(st.binary(max_size=400))
def test_foreign_bytes(data: bytes) -> None:
    check(data)
    check(b"PWTS" + data)


def places(value: Any, at: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    """Return the index paths of all values in nested lists."""
    inner = [place for n, part in enumerate(value) for place in places(part, (*at, n))] if type(value) is list else []
    return [at, *inner]


def put(value: Any, at: tuple[int, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy with one value changed."""
    if not at:
        return change(value)
    return [put(part, at[1:], change) if n == at[0] else part for n, part in enumerate(value)]


@fuzz(300)
@given(st.sampled_from(places(ABOUT)), anything)
@example((0, 2), float("nan"))
@example((0, 3), 1)
@example((0, 3), 1_000_000)
@example((0, 1), 2**32 - 1)
def test_another_value_anywhere_in_the_head(at: tuple[int, ...], value: object) -> None:
    check(join_state(VERSION, put(ABOUT, at, lambda _: value), ARRAYS))


@fuzz(100)
@given(st.sampled_from(places(ABOUT)), st.sampled_from(["drop", "twice", "nest"]))
def test_another_form_of_the_head(at: tuple[int, ...], how: str) -> None:
    def change(value: Any) -> Any:
        if how == "nest":
            return [value]
        return value[:-1] if how == "drop" and type(value) is list else value * 2 if type(value) is list else None

    check(join_state(VERSION, put(ABOUT, at, change), ARRAYS))


@fuzz(300)
@given(st.data())
def test_other_values_in_the_arrays(data: st.DataObject) -> None:
    arrays = bytearray(ARRAYS)
    for _ in range(data.draw(st.integers(1, 4))):
        kind, value = data.draw(st.sampled_from(["<f", "<d", "<q"])), data.draw(floats)
        size = struct.calcsize(kind)
        at = data.draw(st.integers(0, (len(arrays) - size) // 4)) * 4
        whole = data.draw(st.integers(-3, 50)) if kind == "<q" else value
        arrays[at : at + size] = struct.pack(kind, whole)
    check(join_state(VERSION, ABOUT, bytes(arrays)))


@fuzz(50)
@given(st.integers(0, len(ARRAYS)), st.binary(max_size=20))
def test_arrays_of_another_length(cut: int, more: bytes) -> None:
    check(join_state(VERSION, ABOUT, ARRAYS[:cut] + more))


@fuzz(50)
@given(
    st.sampled_from(["velocities", "drifts", "boxes", "scores", "poses", "colours", "missed"]),
    st.floats(-1e9, 1e9, width=32),
)
@example("boxes", 1e9)
@example("poses", -1e9)
@example("velocities", 1e9)
@example("drifts", -1e9)
def test_extreme_values_that_are_allowed(name: str, value: float) -> None:
    given = stream_state(3)
    getattr(given.tracker.tracks, name)[...] = value
    check(pack(given))
