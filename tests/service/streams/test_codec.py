"""A stream's memory as bytes: all of it comes back, and nothing that is not one is taken for one."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.streams.codec import StateError, pack, unpack
from service.streams.state import MOST_IDS, Memory
from service.tracking import TrackerState, TrackState
from service.tracking.config import TrackerConfig
from service.tracking.smoothing import Filtered
from service.tracking.zones import Presence, Visit, ZonesState
from tests.memories import NOBODY, NOW, SOMEBODY, memory, packed, put_together, smoothing, take_apart, with_columns


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


@pytest.mark.parametrize("smoothed", [False, True])
def test_damage_anywhere_is_noticed(smoothed: bool) -> None:
    good = pack(replace(memory(1), smoothing=smoothing(1) if smoothed else None))
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
    about: object = (("coco-17", 1, 0.0, 1, 1), (256, 100, 17), "", [])
    with pytest.raises(StateError, match="buffer"):
        unpack(put_together(1, about, b""))


TRACKER, SHAPE, PLACES, PRESENT = range(4)
SKELETON, NEXT_ID, TIMESTAMP, WIDTH, HEIGHT = range(5)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        *((SKELETON, value) for value in (None, "", "nobody-17", "mpii-16", "x" * 10_000, 17, b"coco-17")),
        *((NEXT_ID, value) for value in (None, "x", 0, -5, 3, MOST_IDS + 1, 2**40, 2**64 - 1, 1.0, True)),
        *((TIMESTAMP, value) for value in (None, "x", math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, [1.0])),
        *((WIDTH, value) for value in (None, "x", -1, 2**62, 1.5, math.inf, True)),
        *((HEIGHT, value) for value in (None, -1, 2**62)),
    ],
)
def test_numbers_and_names_that_no_tracker_has_are_refused(at: int, value: object) -> None:
    version, about, arrays = take_apart(packed())
    tracker = about[TRACKER]
    assert isinstance(tracker, list)
    tracker[at] = value
    with pytest.raises(StateError) as refusal:
        unpack(put_together(version, about, arrays))
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "shape", [None, 3, [], [3, 3], [-1, 3, 17], [3, 0, 17], [3, 3, 16], [257, 3, 17], [3, 3, 17, 1], [3.0, 3, 17]]
)
def test_shapes_that_no_tracker_has_are_refused(shape: object) -> None:
    version, about, arrays = take_apart(packed())
    about[SHAPE] = shape
    with pytest.raises(StateError):
        unpack(put_together(version, about, arrays))


@pytest.mark.parametrize(
    "about", [None, 1, [], {}, "PWTS", [[]] * 4, [["coco-17", 1, 0.0, 1, 1], [0, 3, 17], "", [], 0], [0] * 1000]
)
def test_an_array_of_another_form_is_refused(about: object) -> None:
    for version in (1, 2):
        with pytest.raises(StateError):
            unpack(put_together(version, about, b""))


@pytest.mark.parametrize(
    "present",
    [
        None,
        "abcd",
        [1],
        [[1, NOW, [], []], [1, NOW, [], []]],
        [[42, NOW, [], []]],
        [[0, NOW, [], []]],
        [[1, NOW + 1, [], []]],
        [[1, math.nan, [], []]],
        [[1, NOW, [[1]], []]],
        [[1, NOW, [[1.0, False, 3]], []]],
        [[1, NOW, [[NOW + 1, False]], []]],
        [[1, NOW, [[1.0, 1]], []]],
        [[1, NOW, [], [[0.5]]]],
        [[1, NOW, [], [[0.5, math.inf]]]],
        [[1, NOW, [], []], [2, NOW, [None], []]],
        [[1 + n, NOW, [], []] for n in range(10_001)],
    ],
)
def test_people_in_zones_who_cannot_be_are_refused(present: object) -> None:
    version, about, arrays = take_apart(packed())
    about[PRESENT] = present
    with pytest.raises(StateError):
        unpack(put_together(version, about, arrays))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(TrackState) if field.name != "ids"], ids=str
)
def test_values_that_no_tracker_has_are_refused(name: str, bad: float) -> None:
    with pytest.raises(StateError, match="out of"):
        unpack(pack(with_columns(memory(), **{name: bad})))


@pytest.mark.parametrize("ids", [[1, 2, 2], [1, 2, 0], [1, 2, -2], [1, 2, 42], [1, 2, 2**62]])
def test_ids_that_nobody_can_have_are_refused(ids: list[int]) -> None:
    with pytest.raises(StateError, match="id"):
        unpack(pack(with_columns(memory(), ids=ids)))


def test_several_people_may_be_unconfirmed() -> None:
    assert unpack(pack(with_columns(memory(), ids=[-1, 5, -1]))).tracker.tracks.ids.tolist() == [-1, 5, -1]


@pytest.mark.parametrize("column", [field.name for field in dataclasses.fields(Filtered)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_smoothing_that_cannot_be_is_refused(column: str, bad: float) -> None:
    state = smoothing(2)
    getattr(state.points, column)[1, 3] = bad
    with pytest.raises(StateError):
        unpack(pack(replace(memory(), smoothing=state)))


@pytest.mark.parametrize("change", [lambda m: replace(m, zones=SOMEBODY), lambda m: replace(m, smoothing=smoothing(1))])
def test_before_the_first_frame_there_is_nobody(change: Callable[[Memory], Memory]) -> None:
    state = TrackerState("coco-17", 42, math.nan, 0, 0, TrackState.zeros(0, 3, 17))
    with pytest.raises(StateError, match="no frame"):
        unpack(pack(change(Memory(state, NOBODY))))


def test_as_many_people_as_a_tracker_remembers_are_read() -> None:
    most = TrackerConfig().max_tracks
    visits: tuple[Any, ...] = (Visit(NOW), None)
    everybody = ZonesState(tuple(Presence(1 + n, NOW, visits, (None,)) for n in range(most)))
    full = replace(memory(most, zones=everybody), smoothing=smoothing(most))
    assert len(unpack(pack(full)).tracker.tracks) == most
