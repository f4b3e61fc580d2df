"""Made-up states of streams."""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from dataclasses import replace

import numpy as np
import ormsgpack

from service.rules.state import RulesState, rows
from service.tracking import AbsentState, TrackerState, TrackState
from service.tracking.smoothing import Filtered, SmoothingState
from service.tracking.zones import Presence, Visit, ZonesState
from service.tracking_workers.codec import pack
from service.tracking_workers.state import StreamState

NOW = 1e9 + 0.25
NOBODY = ZonesState()
SOMEBODY = ZonesState(
    (
        Presence(1, 1e9 + 0.1, (Visit(1e9, dwelt=True), None), ((0.25, 0.5),)),
        Presence(7, 1e9 + 0.2, (None, Visit(1e9 + 0.2)), (None,)),
    )
)
_HEAD = struct.Struct(">4sBII")


def stream_state(people: int = 3, history: int = 3, keypoints: int = 17, zones: ZonesState = NOBODY) -> StreamState:
    """Return a state with the people 1, 2, ... in it. The next id is at least 42."""
    rng = np.random.default_rng(people)
    tracks = TrackState.zeros(people, history, keypoints)
    for field in dataclasses.fields(tracks):
        column = getattr(tracks, field.name)
        column[...] = rng.uniform(0, 1, column.shape).astype(column.dtype)
    tracks.ids[:] = np.arange(1, people + 1)
    tracks.seen[:] = NOW - rng.uniform(0, 1, people)
    tracks.born[:] = tracks.seen - rng.uniform(0, 1, people)
    tracks.boxes[:] = np.array([100, 100, 200, 300]) + rng.uniform(0, 50, (people, 4))
    tracks.poses[..., :2] = rng.uniform(100, 300, tracks.poses[..., :2].shape)
    return StreamState(TrackerState("coco-17", max(42, people + 1), NOW, 1280, 720, tracks), zones, "places")


def smoothing(people: int) -> SmoothingState:
    """Return the smoothing of the people 1, 2, ... Some of their keypoints were never seen."""
    rng = np.random.default_rng(people)
    raw, value, speed = (rng.normal(500, 200, (people, 17, 2)) for _ in range(3))
    times = rng.choice([NOW - 0.1, -math.inf], (people, 17))
    return SmoothingState(np.arange(1, people + 1), Filtered(raw, value, speed, times))


def absent(people: int) -> AbsentState:
    """Return absent people with the ids 20, 21, ..."""
    rng = np.random.default_rng(people)
    seen = NOW - rng.uniform(1, 20, people)
    return AbsentState(
        np.arange(20, 20 + people),
        seen - 1,
        seen,
        rng.uniform(0, 500, (people, 4)).astype(np.float32),
        rng.integers(0, 256, (people, 17, 4)).astype(np.uint8),
        np.zeros((people, 0), np.int8),
    )


def rules_state(people: int = 3) -> RulesState:
    """Return what two repetitions and other rules remember of the people 1, 2, ..., with three zones and lines."""
    rng = np.random.default_rng(people)
    table = rows(np.arange(1, people + 1), 2)
    for name in table.dtype.names or ():
        if table[name].dtype.kind == "f":
            table[name] = rng.uniform(0, 1, table[name].shape)
    table["count"], table["posture"] = 5, 2
    return RulesState("rules", table, rng.integers(0, 9, (3, 2)))


def with_columns(state: StreamState, **columns: object) -> StreamState:
    """Return a copy with other values in columns of its tracks."""
    tracks = state.tracker.tracks.copy()
    for name, values in columns.items():
        getattr(tracks, name)[...] = values
    return replace(state, tracker=replace(state.tracker, tracks=tracks))


def split_state(data: bytes) -> tuple[int, list[object], bytes]:
    """Return the version, the msgpack array and the bytes of the arrays of a packed state."""
    _, version, _, length = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    return version, ormsgpack.unpackb(body[:length]), body[length:]


def join_state(version: int, about: object, arrays: bytes) -> bytes:
    """Return the bytes of a state with a valid checksum. Its content may be invalid."""
    head = ormsgpack.packb(about)
    body = head + arrays
    return _HEAD.pack(b"PWTS", version, zlib.crc32(body), len(head)) + body


def packed(people: int = 3) -> bytes:
    """Return a packed state."""
    return pack(stream_state(people))
