"""A stream's memory as bytes: versioned, compact, and safe to read whoever wrote them.

Layout: `PWTS`, the version (1 byte), CRC-32 of the rest (4 bytes), the length of the next part (4 bytes), a msgpack
array (the skeleton's name, next id, timestamp, width, height, people, poses a person, keypoints a pose, the places and
who is in them), then the arrays of TrackState in its order. All numbers are big-endian in the head, little-endian in
the arrays. 20 people with 17 keypoints and 3 poses each take 14 kB.
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
from service.tracking.zones import Presence, Visit, ZonesState

_HEAD = struct.Struct(">4sBII")
_MAGIC, _VERSION = b"PWTS", 1
_MOST = 10_000
_COLUMNS = tuple(field.name for field in dataclasses.fields(TrackState))


class StateError(ValueError):
    """Bytes that are no state; the message says what is wrong with them."""


def pack(memory: Memory) -> bytes:
    """The memory as bytes."""
    state = memory.tracker
    about = ormsgpack.packb(
        (
            (state.skeleton, state.next_id, state.timestamp, state.width, state.height),
            state.tracks.poses.shape[:3],
            memory.places,
            [_plain(presence) for presence in memory.zones.present],
        )
    )
    columns = [getattr(state.tracks, name) for name in _COLUMNS]
    body = about + b"".join(column.astype(column.dtype.newbyteorder("<")).tobytes() for column in columns)
    return _HEAD.pack(_MAGIC, _VERSION, zlib.crc32(body), len(about)) + body


def unpack(data: bytes) -> Memory:
    """The memory again. Raises StateError for other bytes, another version's, and damaged ones."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        raise StateError("these bytes are no state of a stream")
    _, version, checksum, length = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise StateError(f"the state is of version {version}; this server reads version {_VERSION}")
    body = memoryview(data)[_HEAD.size :]
    if zlib.crc32(body) != checksum:
        raise StateError("the state is damaged: its checksum does not match")
    try:
        (skeleton, next_id, timestamp, width, height), shape, places, present = ormsgpack.unpackb(body[:length])
        tracks = _tracks(body[length:], *shape)
        tracker = TrackerState(str(skeleton), int(next_id), float(timestamp), int(width), int(height), tracks)
        return Memory(tracker, ZonesState(tuple(map(_presence, present))), str(places))
    except (ValueError, TypeError) as error:
        raise StateError(f"the state is not what it says: {error}") from error


def _tracks(data: memoryview, people: int, history: int, keypoints: int) -> TrackState:
    if not (0 <= people <= _MOST and 1 <= history <= _MOST and 1 <= keypoints <= _MOST):
        raise ValueError(f"{people} people with {history} poses of {keypoints} keypoints")
    nobody = TrackState.zeros(0, history, keypoints)  # people's numbers are believed once there are bytes for them
    columns: list[NDArray[Any]] = []
    at = 0
    for name in _COLUMNS:
        like: NDArray[Any] = getattr(nobody, name)
        shape = (people, *like.shape[1:])
        stored = np.frombuffer(data, like.dtype.newbyteorder("<"), math.prod(shape), at)
        at += stored.nbytes
        columns.append(stored.astype(like.dtype).reshape(shape))
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")
    return TrackState(*columns)


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
