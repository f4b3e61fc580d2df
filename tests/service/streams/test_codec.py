"""A stream's memory as bytes: all of it comes back, and nothing that is not one is taken for one."""

from __future__ import annotations

import dataclasses
import math
import zlib
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.streams.codec import StateError, pack, unpack
from service.streams.memory import Memory
from service.tracking import TrackerState, TrackState
from service.tracking.smoothing import Filtered, SmoothingState
from service.tracking.zones import Presence, Visit, ZonesState

NOBODY = ZonesState()
SOMEBODY = ZonesState(
    (
        Presence(1, 1e9 + 0.1, (Visit(1e9, dwelt=True), None), ((0.25, 0.5),)),
        Presence(7, 1e9 + 0.2, (None, Visit(1e9 + 0.2)), (None,)),
    )
)


def smoothing(people: int) -> SmoothingState:
    rng = np.random.default_rng(people)
    raw, value, speed = (rng.normal(500, 200, (people, 17, 2)) for _ in range(3))
    times = rng.choice([1e9 + 0.1, -math.inf], (people, 17))  # of keypoints that were never seen
    return SmoothingState(np.arange(1, people + 1), Filtered(raw, value, speed, times))


def memory(people: int = 3, history: int = 3, keypoints: int = 17, zones: ZonesState = NOBODY) -> Memory:
    rng = np.random.default_rng(people)
    tracks = TrackState.zeros(people, history, keypoints)
    for field in dataclasses.fields(tracks):
        column = getattr(tracks, field.name)
        column[...] = rng.normal(500, 200, column.shape).astype(column.dtype)
    return Memory(TrackerState("coco-17", 42, 1e9 + 0.123456, 1280, 720, tracks), zones, "places")


@pytest.mark.parametrize("people", [0, 1, 20])
@pytest.mark.parametrize("zones", [NOBODY, SOMEBODY])
def test_it_comes_back_to_the_last_bit(people: int, zones: ZonesState) -> None:
    before = memory(people, zones=zones)
    after = unpack(pack(before))
    assert (after.zones, after.places) == (before.zones, before.places)
    for field in dataclasses.fields(TrackerState):
        if field.name != "tracks":
            assert getattr(after.tracker, field.name) == getattr(before.tracker, field.name)
    for field in dataclasses.fields(TrackState):
        old, new = (getattr(each.tracker.tracks, field.name) for each in (before, after))
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def test_smoothing_comes_back_to_the_last_bit() -> None:
    before = replace(memory(), smoothing=smoothing(3))
    after = unpack(pack(before)).smoothing
    assert before.smoothing is not None
    assert after is not None
    np.testing.assert_array_equal(after.ids, before.smoothing.ids)
    for field in dataclasses.fields(Filtered):
        old, new = (getattr(each.points, field.name) for each in (before.smoothing, after))
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def test_without_smoothing_the_bytes_are_those_that_older_servers_read() -> None:
    assert pack(memory())[4] == 1
    assert pack(replace(memory(), smoothing=smoothing(1)))[4] == 2


def test_smoothed_values_that_are_no_numbers_are_refused() -> None:
    state = smoothing(2)
    state.points.value[1, 3, 0] = math.nan
    with pytest.raises(StateError, match="no numbers"):
        unpack(pack(replace(memory(), smoothing=state)))


def test_a_tracker_that_has_seen_nothing_has_a_state_too() -> None:
    fresh = Memory(TrackerState("coco-17", 1, math.nan, 0, 0, TrackState.zeros(0, 3, 17)), NOBODY)
    assert math.isnan(unpack(pack(fresh)).tracker.timestamp)


def test_a_person_takes_less_than_a_kilobyte() -> None:
    assert len(pack(memory(20))) - len(pack(memory(0))) < 20 * 1000


def test_what_is_restored_may_be_written_to() -> None:
    assert all(
        getattr(unpack(pack(memory())).tracker.tracks, f.name).flags.writeable for f in dataclasses.fields(TrackState)
    )


@given(st.binary(max_size=200))
def test_foreign_bytes_are_told_apart(data: bytes) -> None:
    with pytest.raises(StateError):
        unpack(data)


@pytest.mark.parametrize("state", [None, smoothing(1)])
def test_damage_anywhere_is_noticed(state: SmoothingState | None) -> None:
    good = pack(replace(memory(1), smoothing=state))
    for at in range(len(good)):
        with pytest.raises(StateError):
            unpack(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
    for cut in (0, 8, len(good) // 2, len(good) - 1):
        with pytest.raises(StateError):
            unpack(good[:cut])


def test_another_version_is_named() -> None:
    data = bytearray(pack(memory(1)))
    data[4] = 9
    with pytest.raises(StateError, match="version 9; this server reads versions 1 and 2"):
        unpack(bytes(data))


@given(st.binary(min_size=1, max_size=300))
def test_a_right_checksum_makes_no_wrong_content_right(body: bytes) -> None:
    for version, length in product((b"\1", b"\2"), (0, 1, len(body), 2**32 - 1)):
        with pytest.raises(StateError):
            unpack(b"PWTS" + version + zlib.crc32(body).to_bytes(4, "big") + length.to_bytes(4, "big") + body)


def test_a_state_that_boasts_takes_no_memory() -> None:
    import ormsgpack

    about = ormsgpack.packb((("coco-17", 1, 0.0, 1, 1), (10_000, 10_000, 10_000), "", []))
    data = pack(memory(0))[:5] + zlib.crc32(about).to_bytes(4, "big") + len(about).to_bytes(4, "big") + about
    with pytest.raises(StateError, match="buffer"):
        unpack(data)
