"""Stream states are restored exactly, and all other bytes are refused."""

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

from engines.skeletons import COCO_17, MPII_16, define
from service.rules.definition import Rules
from service.rules.state import RulesState
from service.tracking import AbsentState, PoseTracker, TrackerState, TrackState
from service.tracking.config import TrackerConfig
from service.tracking.smoothing import Filtered
from service.tracking.zones import Presence, Visit, Zone, ZonesState
from service.tracking_workers.codec import StateError, is_of, pack, unpack
from service.tracking_workers.state import MOST_IDS, StreamState, TrackingOptions
from tests.stream_states import (
    NOBODY,
    NOW,
    SOMEBODY,
    absent,
    join_state,
    packed,
    rules_state,
    smoothing,
    split_state,
    stream_state,
    with_columns,
)


@pytest.mark.parametrize("people", [0, 1, 20])
@pytest.mark.parametrize("zones", [NOBODY, SOMEBODY])
def test_a_state_is_restored_exactly(people: int, zones: ZonesState) -> None:
    before = stream_state(people, zones=zones)
    after = unpack(pack(before))
    assert (after.zones, after.zones_hash) == (before.zones, before.zones_hash)
    for field in dataclasses.fields(TrackerState):
        if field.name != "tracks":
            assert getattr(after.tracker, field.name) == getattr(before.tracker, field.name)
    for field in dataclasses.fields(TrackState):
        old, new = (getattr(each.tracker.tracks, field.name) for each in (before, after))
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("people_absent", [0, 3])
def test_embeddings_are_restored_exactly(people_absent: int) -> None:
    looks = np.random.default_rng(0).integers(-127, 128, (64, 512)).astype(np.int8)
    plain = stream_state().tracker
    tracks = replace(plain.tracks, embeddings=looks[: len(plain.tracks)])
    gone = replace(absent(people_absent), embeddings=looks[-people_absent:]) if people_absent else None
    tracker = replace(plain, tracks=tracks, absent=gone, embedder="osnet", next_id=42)
    data = pack(replace(stream_state(), tracker=tracker))
    after = unpack(data).tracker
    assert after.embedder == "osnet"
    np.testing.assert_array_equal(after.tracks.embeddings, tracks.embeddings)
    if gone is not None:
        assert after.absent is not None
        np.testing.assert_array_equal(after.absent.embeddings, gone.embeddings)
    version, about, arrays = split_state(data)
    for wrong in (["osnet", 511], ["osnet", 0], ["osnet", 4096], ["", 512], ["x" * 65, 512], [1, 512], "osnet"):
        with pytest.raises(StateError):
            unpack(join_state(version, [*about[:-1], wrong], arrays))


def test_smoothing_is_restored_exactly() -> None:
    before = replace(stream_state(), smoothing=smoothing(3))
    after = unpack(pack(before)).smoothing
    assert before.smoothing is not None
    assert after is not None
    np.testing.assert_array_equal(after.ids, before.smoothing.ids)
    for field in dataclasses.fields(Filtered):
        old, new = (getattr(each.points, field.name) for each in (before.smoothing, after))
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


def test_states_without_smoothing_have_the_version_that_older_servers_read() -> None:
    assert pack(stream_state())[4] == 1
    assert pack(replace(stream_state(), smoothing=smoothing(1)))[4] == 2


@pytest.mark.parametrize("smoothed", [False, True])
def test_absent_people_are_restored(smoothed: bool) -> None:
    before = stream_state()
    before = replace(before, tracker=replace(before.tracker, absent=absent(5)))
    data = pack(replace(before, smoothing=smoothing(1) if smoothed else None))
    assert data[4] == (4 if smoothed else 3)
    after = unpack(data)
    assert (after.smoothing is not None) == smoothed
    assert after.tracker.absent is not None
    for field in dataclasses.fields(AbsentState):
        old, new = getattr(absent(5), field.name), getattr(after.tracker.absent, field.name)
        assert new.dtype == old.dtype
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("others", [{}, {"smoothing": smoothing(1)}])
def test_numbers_of_events_are_restored(others: dict[str, Any]) -> None:
    numbers = {("enter", "hall"): {1: 3, 2: 1}, ("cross", "Tür"): {0: 7}}
    data = pack(replace(stream_state(), numbers=numbers, **others))
    assert data[4] == (6 if others else 5)
    assert unpack(data).numbers == numbers


@pytest.mark.parametrize(
    "groups",
    [
        *(None, 3, [[]], [["enter", "hall", [1], [1, 2]]], [["enter", "hall", [], []]]),
        *([["enter", 5, [1], [1]]], [["enter", "x" * 65, [1], [1]]], [["enter", "hall", [1, 1], [1, 2]]]),
        *([["enter", "hall", [42], [1]]], [["enter", "hall", [-1], [1]]], [["enter", "hall", [1], [0]]]),
        *([["enter", "hall", [1], [2**60]]], [["enter", "hall", [1], [1.0]]], [["enter", "hall", [1], [1]]] * 2),
        [["enter", str(n), [1], [1]] for n in range(10_001)],
    ],
)
def test_invalid_numbers_of_events_are_refused(groups: object) -> None:
    version, about, arrays = split_state(pack(replace(stream_state(), rules=rules_state())))
    last = about.pop()
    assert isinstance(last, list)
    with pytest.raises(StateError):
        unpack(join_state(version, [*about, [groups, *last[1:]]], arrays))


@pytest.mark.parametrize("others", [{}, {"smoothing": smoothing(1)}])
@pytest.mark.parametrize("people", [0, 3])
def test_what_rules_remember_is_restored_exactly(people: int, others: dict[str, Any]) -> None:
    before = rules_state(people)
    after = unpack(pack(replace(stream_state(), rules=before, **others))).rules
    assert after.hash == before.hash
    np.testing.assert_array_equal(after.people, before.people)
    np.testing.assert_array_equal(after.counts, before.counts)
    assert after.people.dtype == before.people.dtype


def test_rules_take_little() -> None:
    with_rules = pack(replace(stream_state(20), rules=rules_state(20)))
    assert len(with_rules) - len(pack(stream_state(20))) < 20 * 350


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("id", 0), ("id", 42), ("id", 2), ("posture", 3), ("posture", -2), ("side", 2), ("home", -2), ("count", -1)),
        *(("count", 2**60), ("evidence", 1.5), ("evidence", math.nan), ("size", -1.0), ("size", math.inf)),
        *(("speed", math.nan), ("weighed", NOW + 1), ("placed", NOW + 1), ("velocity", 1e30), ("upright", -math.inf)),
    ],
)
def test_what_no_rule_can_remember_is_refused(name: str, value: float) -> None:
    state = rules_state()
    state.people[name][0] = value
    with pytest.raises(StateError):
        unpack(pack(replace(stream_state(), rules=state)))


@pytest.mark.parametrize(
    "shape", [(None, 3, 2, 3), ("x" * 65, 3, 2, 3), ("x", 2, 2, 3), ("x", 3, 1, 3), ("x", 3, 9, 3), ("x", 400, 2, 3)]
)
def test_rules_of_another_shape_than_their_arrays_are_refused(shape: tuple[object, ...]) -> None:
    version, about, arrays = split_state(pack(replace(stream_state(), rules=rules_state())))
    with pytest.raises(StateError):
        unpack(join_state(version, [*about[:-1], [[], *shape]], arrays))


def test_a_state_that_names_rules_but_has_another_shape_fits_no_options() -> None:
    zones = (Zone("a", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))),)
    options = TrackingOptions(zones=zones, rules=Rules(counts=True))
    good = RulesState.initial(options.rules, zones, ())
    assert replace(stream_state(), rules=good).fits(options)
    assert replace(stream_state(), rules=rules_state()).fits(options)  # of other rules
    assert not replace(stream_state(), rules=replace(good, counts=np.zeros((3, 2), np.int64))).fits(options)


def test_absent_people_take_little_and_are_bounded() -> None:
    state = stream_state()
    with_most = pack(replace(state, tracker=replace(state.tracker, next_id=1000, absent=absent(64))))
    assert len(with_most) - len(pack(state)) < 64 * 150
    with pytest.raises(StateError, match="from 1 to 64"):
        unpack(pack(replace(state, tracker=replace(state.tracker, next_id=1000, absent=absent(65)))))


@pytest.mark.parametrize(
    ("column", "value"),
    [("ids", 1), ("ids", 0), ("ids", 42), ("seen", NOW + 1), ("born", NOW), ("born", math.nan), ("boxes", math.inf)],
)
def test_absent_people_who_cannot_be_are_refused(column: str, value: float) -> None:
    state, broken = stream_state(), absent(2)
    getattr(broken, column)[0] = value
    with pytest.raises(StateError):
        unpack(pack(replace(state, tracker=replace(state.tracker, absent=broken))))


def test_smoothed_values_that_are_no_numbers_are_refused() -> None:
    state = smoothing(2)
    state.points.value[1, 3, 0] = math.nan
    with pytest.raises(StateError, match="no numbers"):
        unpack(pack(replace(stream_state(), smoothing=state)))


def test_a_tracker_has_a_state_before_its_first_frame() -> None:
    fresh = StreamState(TrackerState("coco-17", 1, math.nan, 0, 0, TrackState.zeros(0, 3, 17)), NOBODY)
    assert math.isnan(unpack(pack(fresh)).tracker.timestamp)


def test_a_person_takes_less_than_a_kilobyte() -> None:
    assert len(pack(stream_state(20))) - len(pack(stream_state(0))) < 20 * 1000


def test_restored_arrays_are_writable() -> None:
    assert all(
        getattr(unpack(pack(stream_state())).tracker.tracks, f.name).flags.writeable
        for f in dataclasses.fields(TrackState)
    )


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StateError):
        unpack(data)


@pytest.mark.parametrize("smoothed", [False, True])
def test_damage_anywhere_is_detected(smoothed: bool) -> None:
    good = pack(replace(stream_state(1), smoothing=smoothing(1) if smoothed else None))
    for at in range(len(good)):
        with pytest.raises(StateError):
            unpack(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
    for cut in (0, 8, len(good) // 2, len(good) - 1):
        with pytest.raises(StateError):
            unpack(good[:cut])


def test_an_unknown_version_is_named() -> None:
    data = bytearray(pack(stream_state(1)))
    data[4] = 17
    with pytest.raises(StateError, match="version 17; this server reads versions 1 to 16"):
        unpack(bytes(data))


@given(st.binary(min_size=1, max_size=300))
def test_wrong_content_with_a_right_checksum_is_refused(body: bytes) -> None:
    for version, length in product(map(bytes, zip(range(1, 9))), (0, 1, len(body), 2**32 - 1)):
        with pytest.raises(StateError):
            unpack(b"PWTS" + version + zlib.crc32(body).to_bytes(4, "big") + length.to_bytes(4, "big") + body)


def test_a_wrong_number_of_people_allocates_no_memory() -> None:
    about: object = (("coco-17", 1, 0.0, 1, 1), (256, 100, 17), "", [])
    with pytest.raises(StateError, match="buffer"):
        unpack(join_state(1, about, b""))


TRACKER, SHAPE, PLACES, PRESENT = range(4)
SKELETON, NEXT_ID, TIMESTAMP, WIDTH, HEIGHT = range(5)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        *((SKELETON, value) for value in (None, "", "x" * 10_000, 17, b"coco-17")),
        *((NEXT_ID, value) for value in (None, "x", 0, -5, 3, MOST_IDS + 1, 2**40, 2**64 - 1, 1.0, True)),
        *((TIMESTAMP, value) for value in (None, "x", math.nan, math.inf, -math.inf, 1e300, -1e300, 0.0, [1.0])),
        *((WIDTH, value) for value in (None, "x", -1, 2**62, 1.5, math.inf, True)),
        *((HEIGHT, value) for value in (None, -1, 2**62)),
    ],
)
def test_invalid_numbers_and_names_are_refused(at: int, value: object) -> None:
    version, about, arrays = split_state(packed())
    tracker = about[TRACKER]
    assert isinstance(tracker, list)
    tracker[at] = value
    with pytest.raises(StateError) as refusal:
        unpack(join_state(version, about, arrays))
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    "shape", [None, 3, [], [3, 3], [-1, 3, 17], [3, 0, 17], [3, 3, 16], [257, 3, 17], [3, 3, 17, 1], [3.0, 3, 17]]
)
def test_invalid_shapes_are_refused(shape: object) -> None:
    version, about, arrays = split_state(packed())
    about[SHAPE] = shape
    with pytest.raises(StateError):
        unpack(join_state(version, about, arrays))


@pytest.mark.parametrize(
    "about", [None, 1, [], {}, "PWTS", [[]] * 4, [["coco-17", 1, 0.0, 1, 1], [0, 3, 17], "", [], 0], [0] * 1000]
)
def test_other_msgpack_values_are_refused(about: object) -> None:
    for version in (1, 2):
        with pytest.raises(StateError):
            unpack(join_state(version, about, b""))


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
def test_invalid_people_in_zones_are_refused(present: object) -> None:
    version, about, arrays = split_state(packed())
    about[PRESENT] = present
    with pytest.raises(StateError):
        unpack(join_state(version, about, arrays))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(TrackState) if field.name not in ("ids", "embeddings")], ids=str
)
def test_invalid_values_are_refused(name: str, bad: float) -> None:
    with pytest.raises(StateError, match="out of"):
        unpack(pack(with_columns(stream_state(), **{name: bad})))


@pytest.mark.parametrize("ids", [[1, 2, 2], [1, 2, 0], [1, 2, -2], [1, 2, 42], [1, 2, 2**62]])
def test_invalid_ids_are_refused(ids: list[int]) -> None:
    with pytest.raises(StateError, match="id"):
        unpack(pack(with_columns(stream_state(), ids=ids)))


def test_several_people_may_be_unconfirmed() -> None:
    assert unpack(pack(with_columns(stream_state(), ids=[-1, 5, -1]))).tracker.tracks.ids.tolist() == [-1, 5, -1]


@pytest.mark.parametrize("column", [field.name for field in dataclasses.fields(Filtered)])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_invalid_smoothing_is_refused(column: str, bad: float) -> None:
    state = smoothing(2)
    getattr(state.points, column)[1, 3] = bad
    with pytest.raises(StateError):
        unpack(pack(replace(stream_state(), smoothing=state)))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: replace(m, zones=SOMEBODY),
        lambda m: replace(m, smoothing=smoothing(1)),
        lambda m: replace(m, numbers={("enter", "hall"): {1: 1}}),
    ],
)
def test_a_state_without_a_frame_has_no_people(change: Callable[[StreamState], StreamState]) -> None:
    state = TrackerState("coco-17", 42, math.nan, 0, 0, TrackState.zeros(0, 3, 17))
    with pytest.raises(StateError, match="no frame"):
        unpack(pack(change(StreamState(state, NOBODY))))


def test_a_state_with_the_most_people_is_read() -> None:
    most = TrackerConfig().max_tracks
    visits: tuple[Any, ...] = (Visit(NOW), None)
    everybody = ZonesState(tuple(Presence(1 + n, NOW, visits, (None,)) for n in range(most)))
    full = replace(stream_state(most, zones=everybody), smoothing=smoothing(most))
    assert len(unpack(pack(full)).tracker.tracks) == most


def test_a_state_may_have_a_users_skeleton_and_is_of_no_other_of_its_name_or_size() -> None:
    own = define("mine", ["a", "b", "c"])
    state = unpack(pack(StreamState(PoseTracker(own).state(), ZonesState())))
    assert is_of(state, own)
    assert not any(is_of(state, other) for other in (COCO_17, MPII_16, define("mine", ["a"]), define("it", "abc")))
