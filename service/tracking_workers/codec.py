"""Packs the state of a stream into bytes: versioned, compact, and safe to read from untrusted sources.

Layout: `PWTS`, the version (1 byte), CRC-32 of everything after the header (4 bytes), the length of the msgpack array
(4 bytes), the msgpack array, then the arrays of TrackState in the order of its fields. The msgpack array holds
(skeleton name, next id, timestamp, width, height), (people, poses a person, keypoints a pose), the hash of the zones
and lines, and the people in zones. Numbers are big-endian in the header and little-endian in the arrays. 20 people with
17 keypoints and 3 poses each take 19 kB.

Version 2 is used for streams with smoothing. Its msgpack array also holds the number of smoothed people, and their ids
and the arrays of Filtered follow the other arrays, 1 kB a person. Servers that know only version 1 can continue streams
without smoothing.

Versions 3 and 4 are 1 and 2 with people whom the tracker remembers by their appearance, at the end: their number in the
msgpack array, and the arrays of AbsentState, 0.1 kB a person and 64 people at most. They are used only while there are
such people, so that servers that do not know them can continue most streams.

Versions 5 to 8 are 1 to 4 with events or rules, in the same way: the last member of the msgpack array holds the
numbers of events as a list of (kind, name, ids, numbers), 3 to 10 bytes for each person and kind of event, and the
hash of the rules and the numbers of people, repetitions, and zones and lines in `RulesState`, whose arrays come last:
152 bytes a person, and 40 for each repetition.

Versions 9 to 16 are 1 to 8 with embeddings: a member of the msgpack array before that of events holds the name of the
embedder and the number D of values. People and absent people have D bytes more, as the last of their arrays.

`unpack` checks types, lengths and values, so that no tracker fails later on a state that it has returned. The skeleton
may be a user's: callers check that it is the one of their poses, see `is_of`.
"""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from typing import Any

import numpy as np
import ormsgpack
from numpy.typing import NDArray

from engines.families.embedding import MOST_VALUES
from engines.skeletons import Skeleton
from service.rules.state import MOST_REPETITIONS, RulesState, row_type
from service.tracking import AbsentState, TrackerState, TrackState
from service.tracking.config import TrackerConfig
from service.tracking.events import MOST_NUMBERS, Numbers
from service.tracking.smoothing import Filtered, SmoothingState
from service.tracking.state import UNCONFIRMED
from service.tracking.zones import Presence, Visit, ZonesState
from service.tracking_workers.state import MOST_IDS, StreamState

_HEAD = struct.Struct(">4sBII")
_MAGIC = b"PWTS"
_VERSION, _SMOOTHED = 1, 2
_REMEMBERING = 2
"""Added to the version of states with absent people."""
_EVENTFUL = 4
"""Added to the version of states with numbers of events or with rules."""
_EMBEDDED = 8
"""Added to the version of states with embeddings."""
_LATEST_VERSION = _SMOOTHED + _REMEMBERING + _EVENTFUL + _EMBEDDED
_MOST = 10_000
"""Upper bound of every count that has no tighter one."""
_MOST_TRACKS, _MOST_ABSENT = TrackerConfig().max_tracks, TrackerConfig().max_absent
_MOST_HISTORY = 100
_LONGEST_NAME = 64
_SIDE = 1_000_000
"""The largest width or height of a frame, in pixels."""
_FAR = 1e9
"""The largest coordinate in pixels, and the largest speed in pixels a second. Their squares fit float32."""
_LARGEST_NUMBER = 2**53
"""The largest number of an event. JSON readers that use float64 lose nothing of it."""
_LATEST = 1e11
"""The largest time in seconds. Beyond it float64 cannot distinguish successive frames."""
_LARGE = 1e3
"""Upper bound of scores, colours and seconds since a person was last seen."""
_ROUNDING = 1e-3
"""How far below 0 a mean of colours may be, because of rounding."""
_COLUMNS = tuple(field.name for field in dataclasses.fields(TrackState))
_ABSENT = tuple(field.name for field in dataclasses.fields(AbsentState))
_FILTERED = tuple(field.name for field in dataclasses.fields(Filtered))


class StateError(ValueError):
    """Bytes are not a valid state. The message says what is wrong."""


def pack(state: StreamState) -> bytes:
    tracker, smoothing = state.tracker, state.smoothing
    about: list[object] = [
        (tracker.skeleton, tracker.next_id, tracker.timestamp, tracker.width, tracker.height),
        tracker.tracks.poses.shape[:3],
        state.zones_hash,
        [_plain(presence) for presence in state.zones.present],
    ]
    columns = [getattr(tracker.tracks, name) for name in _COLUMNS]
    version = _VERSION
    if smoothing is not None:
        version = _SMOOTHED
        about.append(len(smoothing.ids))
        columns += [smoothing.ids, *(getattr(smoothing.points, name) for name in _FILTERED)]
    if tracker.absent is not None and len(tracker.absent):
        version += _REMEMBERING
        about.append(len(tracker.absent))
        columns += [getattr(tracker.absent, name) for name in _ABSENT]
    if tracker.embedder:
        version += _EMBEDDED
        about.append((tracker.embedder, tracker.tracks.embeddings.shape[1]))
    if state.numbers or state.rules.hash:
        version += _EVENTFUL
        rules = state.rules
        numbers = [(*key, list(last), list(last.values())) for key, last in state.numbers.items()]
        about.append((numbers, rules.hash, len(rules.people), rules.repetitions, len(rules.counts)))
        columns += [rules.people, rules.counts]
    head = ormsgpack.packb(about)
    body = head + b"".join(column.astype(column.dtype.newbyteorder("<")).tobytes() for column in columns)
    return _HEAD.pack(_MAGIC, version, zlib.crc32(body), len(head)) + body


def unpack(data: bytes) -> StreamState:
    """Return the state. Raises StateError if the bytes are no state, of an unknown version, or damaged."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise StateError("these bytes are no state of a stream")
    _, version, checksum, length = _HEAD.unpack_from(data)
    if not _VERSION <= version <= _LATEST_VERSION:
        raise StateError(f"the state is of version {version}; this server reads versions 1 to {_LATEST_VERSION}")
    smooth, remembering, eventful, embedded = (bool(version - _VERSION & 1 << bit) for bit in range(4))
    body = memoryview(data)[_HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise StateError("the state is damaged: its checksum does not match")
    try:
        about = _list(ormsgpack.unpackb(body[:length]), least=4 + smooth + remembering + eventful + embedded)
        happened = _list(about.pop(), 5) if eventful else None
        embedder, values = _list(about.pop(), 2) if embedded else ("", 0)
        _whole(values, int(embedded), MOST_VALUES)
        if type(embedder) is not str or len(embedder) > _LONGEST_NAME or bool(embedder) != embedded:
            raise ValueError("the embedder has no name")
        skeleton, next_id, timestamp, width, height = _list(about[0], 5)
        people, history, keypoints = [_whole(value, 0, _MOST) for value in _list(about[1], 3)]
        _whole(next_id, 1, MOST_IDS)
        _whole(width, 0, _SIDE)
        _whole(height, 0, _SIDE)
        _whole(people, 0, _MOST_TRACKS)
        _whole(history, 1, _MOST_HISTORY)
        if type(skeleton) is not str or not 0 < len(skeleton) <= _LONGEST_NAME or not keypoints:
            raise ValueError("the skeleton has no name, or no keypoints")
        if type(timestamp) is not float or type(about[2]) is not str or len(about[2]) > _LONGEST_NAME:
            raise ValueError("the timestamp is no number, or the places have no name")
        zones_hash, present = about[2], _list(about[3], 0, _MOST)
        arrays = _Arrays(body[length:])
        tracks = _tracks(arrays, people, history, keypoints, values)
        smoothing = _smoothing(arrays, _whole(about[4], 1, _MOST), keypoints) if smooth else None
        absent = _absent(arrays, _whole(about[-1], 1, _MOST_ABSENT), keypoints, values) if remembering else None
        numbers, rules = (
            ({}, RulesState()) if happened is None else (_numbers(happened[0]), _rules(arrays, *happened[1:]))
        )
        arrays.end()
        zones = ZonesState(tuple(map(_presence, present)))
        tracker = TrackerState(skeleton, next_id, timestamp, width, height, tracks, absent, embedder)
        state = StreamState(tracker, zones, zones_hash, smoothing, numbers, rules)
        _check(state)
        return state
    except ValueError as error:
        raise StateError(f"the state is not what it says: {error}") from error


def is_of(state: StreamState, skeleton: Skeleton) -> bool:
    """True if a state is of poses with that skeleton."""
    tracker = state.tracker
    return tracker.skeleton == skeleton.name and tracker.tracks.poses.shape[2] == len(skeleton)


class _Arrays:
    """Reads consecutive arrays from bytes."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, dtype: np.dtype[Any], *shape: int) -> NDArray[Any]:
        """Return the next array. Raises ValueError if there are not enough bytes."""
        stored = np.frombuffer(self._data, dtype.newbyteorder("<"), math.prod(shape), self._at)
        self._at += stored.nbytes
        return stored.astype(dtype).reshape(shape)

    def end(self) -> None:
        """Raise ValueError if there are bytes left."""
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes are left over")


def _tracks(arrays: _Arrays, people: int, history: int, keypoints: int, values: int) -> TrackState:
    # Allocates nothing for a number of people that may be wrong
    empty = TrackState.zeros(0, history, keypoints, values)
    columns: list[NDArray[Any]] = [getattr(empty, name) for name in _COLUMNS]
    return TrackState(*(arrays.take(column.dtype, people, *column.shape[1:]) for column in columns))


def _absent(arrays: _Arrays, people: int, keypoints: int, values: int) -> AbsentState:
    nobody = AbsentState.nobody(keypoints, values)
    columns: list[NDArray[Any]] = [getattr(nobody, name) for name in _ABSENT]
    return AbsentState(*(arrays.take(column.dtype, people, *column.shape[1:]) for column in columns))


def _smoothing(arrays: _Arrays, people: int, keypoints: int) -> SmoothingState:
    ids = arrays.take(np.dtype(np.int64), people)
    raw, value, speed = (arrays.take(np.dtype(np.float64), people, keypoints, 2) for _ in range(3))
    time = arrays.take(np.dtype(np.float64), people, keypoints)
    return SmoothingState(ids, Filtered(raw, value, speed, time))


def _rules(arrays: _Arrays, name: object, people: object, repetitions: object, places: object) -> RulesState:
    if type(name) is not str or len(name) > _LONGEST_NAME:
        raise ValueError("the rules have no name")
    rows = row_type(_whole(repetitions, 0, MOST_REPETITIONS))
    table = arrays.take(rows, _whole(people, 0, _MOST_TRACKS + _MOST_ABSENT))
    return RulesState(name, table, arrays.take(np.dtype(np.int64), _whole(places, 0, _MOST), 2))


def _plain(presence: Presence) -> tuple[object, ...]:
    visits = [visit and (visit.since, visit.dwelt) for visit in presence.visits]
    return presence.id, presence.seen, visits, presence.places


def _presence(plain: object) -> Presence:
    number, seen, visits, places = _list(plain, 4)
    return Presence(
        _whole(number, 1, MOST_IDS),
        _real(seen, _LATEST),
        tuple(None if visit is None else _visit(visit) for visit in _list(visits, 0, _MOST)),
        tuple(None if place is None else _point(place) for place in _list(places, 0, _MOST)),
    )


def _numbers(plain: object) -> Numbers:
    numbers: dict[tuple[str, str], dict[int, int]] = {}
    room = MOST_NUMBERS
    for group in _list(plain, 0, MOST_NUMBERS):
        kind, name, ids, last = _list(group, 4)
        ids = [_whole(number, 0, MOST_IDS) for number in _list(ids, 1, room)]
        last = [_whole(number, 1, _LARGEST_NUMBER) for number in _list(last, len(ids))]
        _require(all(type(text) is str and len(text) <= _LONGEST_NAME for text in (kind, name)), "events have no name")
        _require((kind, name) not in numbers and len(set(ids)) == len(ids), "events are numbered twice")
        numbers[kind, name] = dict(zip(ids, last, strict=True))
        room -= len(ids)
    return numbers


def _visit(plain: object) -> Visit:
    since, dwelt = _list(plain, 2)
    if type(dwelt) is not bool:
        raise ValueError("a visit is no visit")
    return Visit(_real(since, _LATEST), dwelt)


def _point(plain: object) -> tuple[float, float]:
    x, y = _list(plain, 2)
    return _real(x, _SIDE), _real(y, _SIDE)


def _list(value: object, least: int, most: int = 0) -> list[Any]:
    """Return a list of at least `least` values, and at most `most` or `least`, whichever is more."""
    if type(value) is not list or not least <= len(value) <= max(least, most):
        raise ValueError("a list is missing, or of another length")
    return value


def _whole(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"a whole number from {least} to {most} is missing")
    return value


def _real(value: object, most: float) -> float:
    if type(value) is not float or not -most <= value <= most:
        raise ValueError(f"a number of at most {most:g} is missing")
    return value


def _check(state: StreamState) -> None:
    """Raise ValueError for values that no tracker, zones or smoothing filter can have."""
    tracker, tracks, present, smoothing = state.tracker, state.tracker.tracks, state.zones.present, state.smoothing
    now = tracker.timestamp
    if math.isnan(now):
        people = len(tracks) or present or smoothing or tracker.absent or state.numbers or len(state.rules.people)
        _require(not people, "there are people, but there was no frame")
        return
    _require(abs(now) <= _LATEST, "the timestamp is out of range")
    _check_ids(tracks.ids[tracks.ids != UNCONFIRMED], tracker.next_id)
    _require((tracks.born >= -_LATEST) & (tracks.born <= tracks.seen) & (tracks.seen <= now), "times are out of order")
    _require((tracks.missed >= 0) & (tracks.missed <= _LARGE), "times out of sight are out of range")
    for column in (tracks.velocities, tracks.drifts, tracks.boxes, tracks.poses[..., :2]):
        _require(np.abs(column) <= _FAR, "places are out of range")
    for column in (tracks.scores, tracks.poses[..., 2], tracks.colours):
        _require((column >= -_ROUNDING) & (column <= _LARGE), "scores or colours are out of range")
    if (absent := tracker.absent) is not None:
        _check_ids(np.concatenate([absent.ids, tracks.ids[tracks.ids != UNCONFIRMED]]), tracker.next_id)
        _require((absent.born >= -_LATEST) & (absent.born <= absent.seen) & (absent.seen <= now), "times out of order")
        _require(np.abs(absent.boxes) <= _FAR, "places are out of range")
    _check_ids(np.array([person.id for person in present], np.int64), tracker.next_id)
    for person in present:
        counts = len(person.visits), len(person.places)
        _require(counts == (len(present[0].visits), len(present[0].places)), "people are in different zones and lines")
        _require(person.seen <= now, "times are out of order")
        _require(all(visit.since <= person.seen for visit in person.visits if visit), "times are out of order")
    _require(all(0 <= n < tracker.next_id for last in state.numbers.values() for n in last), "ids are out of range")
    _check_ids(state.rules.people["id"], tracker.next_id)
    state.rules.check(now)
    if smoothing is not None:
        points = smoothing.points
        _check_ids(smoothing.ids, tracker.next_id)
        _require(points.time <= now, "times are out of order")  # -inf for keypoints that were never seen
        for values in (points.raw, points.value, points.speed):
            _require(np.isfinite(values), "smoothed keypoints hold values that are no numbers")
            _require(np.abs(values) <= _FAR, "smoothed keypoints are out of range")


def _check_ids(ids: NDArray[np.int64], next_id: int) -> None:
    _require((ids >= 1) & (ids < next_id), "ids are out of range")
    _require(len(np.unique(ids)) == len(ids), "two people have one id")


def _require(good: NDArray[np.bool_] | bool, otherwise: str) -> None:
    """Raise ValueError unless all conditions hold. Comparisons with NaN do not."""
    if not np.all(good):
        raise ValueError(otherwise)
