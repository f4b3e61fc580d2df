"""A stream's memory as bytes: versioned, compact, and safe to read whoever wrote them.

Layout: `PWTS`, the version (1 byte), CRC-32 of the rest (4 bytes), the length of the next part (4 bytes), a msgpack
array (the skeleton's name, next id, timestamp, width, height, people, poses a person, keypoints a pose, the places and
who is in them), then the arrays of TrackState in its order. All numbers are big-endian in the head, little-endian in
the arrays. 20 people with 17 keypoints and 3 poses each take 19 kB.

Version 2 is of streams with smoothing: the msgpack array ends with how many people are smoothed, the bytes with their
ids and the arrays of Filtered, 1 kB a person. Servers that know version 1 alone go on with streams that have none.
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

from service.streams.memory import Memory
from service.tracking import TrackerState, TrackState
from service.tracking.smoothing import Filtered, SmoothingState
from service.tracking.zones import Presence, Visit, ZonesState

_HEAD = struct.Struct(">4sBII")
_MAGIC, _VERSION, _SMOOTHED = b"PWTS", 1, 2
_MOST = 10_000
_COLUMNS = tuple(field.name for field in dataclasses.fields(TrackState))
_FILTERED = tuple(field.name for field in dataclasses.fields(Filtered))


class StateError(ValueError):
    """Bytes that are no state; the message says what is wrong with them."""


def pack(memory: Memory) -> bytes:
    """The memory as bytes."""
    state, smoothing = memory.tracker, memory.smoothing
    about: list[object] = [
        (state.skeleton, state.next_id, state.timestamp, state.width, state.height),
        state.tracks.poses.shape[:3],
        memory.places,
        [_plain(presence) for presence in memory.zones.present],
    ]
    columns = [getattr(state.tracks, name) for name in _COLUMNS]
    version = _VERSION
    if smoothing is not None:
        version = _SMOOTHED
        about.append(len(smoothing.ids))
        columns += [smoothing.ids, *(getattr(smoothing.points, name) for name in _FILTERED)]
    head = ormsgpack.packb(about)
    body = head + b"".join(column.astype(column.dtype.newbyteorder("<")).tobytes() for column in columns)
    return _HEAD.pack(_MAGIC, version, zlib.crc32(body), len(head)) + body


def unpack(data: bytes) -> Memory:
    """The memory again. Raises StateError for other bytes, another version's, and damaged ones."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise StateError("these bytes are no state of a stream")
    _, version, checksum, length = _HEAD.unpack_from(data)
    if version not in (_VERSION, _SMOOTHED):
        raise StateError(f"the state is of version {version}; this server reads versions {_VERSION} and {_SMOOTHED}")
    body = memoryview(data)[_HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise StateError("the state is damaged: its checksum does not match")
    try:
        tracker, shape, places, present, *smoothed = ormsgpack.unpackb(body[:length])
        skeleton, next_id, timestamp, width, height = tracker
        arrays = _Arrays(body[length:])
        tracks = _tracks(arrays, *shape)
        smoothing = _smoothing(arrays, smoothed[0], shape[2]) if version == _SMOOTHED else None
        arrays.end()
        state = TrackerState(str(skeleton), int(next_id), float(timestamp), int(width), int(height), tracks)
        return Memory(state, ZonesState(tuple(map(_presence, present))), str(places), smoothing)
    except (IndexError, ValueError, TypeError) as error:
        raise StateError(f"the state is not what it says: {error}") from error


class _Arrays:
    """Takes arrays off the bytes, one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, dtype: np.dtype[Any], *shape: int) -> NDArray[Any]:
        """The next array. Raises ValueError where there are not as many bytes."""
        stored = np.frombuffer(self._data, dtype.newbyteorder("<"), math.prod(shape), self._at)
        self._at += stored.nbytes
        return stored.astype(dtype).reshape(shape)

    def end(self) -> None:
        """Raise ValueError unless all was taken."""
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes are left over")


def _tracks(arrays: _Arrays, people: int, history: int, keypoints: int) -> TrackState:
    if not (0 <= people <= _MOST and 1 <= history <= _MOST and 1 <= keypoints <= _MOST):
        raise ValueError(f"{people} people with {history} poses of {keypoints} keypoints")
    nobody = TrackState.zeros(0, history, keypoints)  # people's numbers are believed once there are bytes for them
    likes: list[NDArray[Any]] = [getattr(nobody, name) for name in _COLUMNS]
    return TrackState(*(arrays.take(like.dtype, people, *like.shape[1:]) for like in likes))


def _smoothing(arrays: _Arrays, people: int, keypoints: int) -> SmoothingState:
    if not 1 <= people <= _MOST:
        raise ValueError(f"{people} people are smoothed")
    ids = arrays.take(np.dtype(np.int64), people)
    raw, value, speed = (arrays.take(np.dtype(np.float64), people, keypoints, 2) for _ in range(3))
    time = arrays.take(np.dtype(np.float64), people, keypoints)
    if not np.isfinite((raw, value, speed)).all() or np.isnan(time).any():  # who was never seen was at -inf
        raise ValueError("smoothed keypoints hold values that are no numbers")
    return SmoothingState(ids, Filtered(raw, value, speed, time))


def _plain(presence: Presence) -> tuple[object, ...]:
    visits = [visit and (visit.since, visit.dwelt) for visit in presence.visits]
    return presence.id, presence.seen, visits, presence.places


def _presence(plain: list[Any]) -> Presence:
    number, seen, visits, places = plain
    return Presence(
        number,
        seen,
        tuple(None if visit is None else Visit(*visit) for visit in visits),
        tuple(None if place is None else (place[0], place[1]) for place in places),
    )
