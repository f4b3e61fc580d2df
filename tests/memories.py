"""What streams may remember, made up."""

from __future__ import annotations

import dataclasses
import math
import struct
import zlib
from dataclasses import replace

import numpy as np
import ormsgpack

from service.streams.codec import pack
from service.streams.state import Memory
from service.tracking import TrackerState, TrackState
from service.tracking.smoothing import Filtered, SmoothingState
from service.tracking.zones import Presence, Visit, ZonesState

NOW = 1e9 + 0.25
NOBODY = ZonesState()
SOMEBODY = ZonesState(
    (
        Presence(1, 1e9 + 0.1, (Visit(1e9, dwelt=True), None), ((0.25, 0.5),)),
        Presence(7, 1e9 + 0.2, (None, Visit(1e9 + 0.2)), (None,)),
    )
)
_HEAD = struct.Struct(">4sBII")


def memory(people: int = 3, history: int = 3, keypoints: int = 17, zones: ZonesState = NOBODY) -> Memory:
    """People with the ids 1, 2, ..., all at once; the next has the id 42 at least."""
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
    return Memory(TrackerState("coco-17", max(42, people + 1), NOW, 1280, 720, tracks), zones, "places")


def smoothing(people: int) -> SmoothingState:
    """Of people with the ids 1, 2, ...; some of their keypoints were never seen."""
    rng = np.random.default_rng(people)
    raw, value, speed = (rng.normal(500, 200, (people, 17, 2)) for _ in range(3))
    times = rng.choice([NOW - 0.1, -math.inf], (people, 17))
    return SmoothingState(np.arange(1, people + 1), Filtered(raw, value, speed, times))


def with_columns(given: Memory, **columns: object) -> Memory:
    """The same with other values in columns of its tracks."""
    tracks = given.tracker.tracks.copy()
    for name, values in columns.items():
        getattr(tracks, name)[...] = values
    return replace(given, tracker=replace(given.tracker, tracks=tracks))


def take_apart(data: bytes) -> tuple[int, list[object], bytes]:
    """The version, the msgpack array and the bytes of the arrays of a packed memory."""
    _, version, _, length = _HEAD.unpack_from(data)
    body = data[_HEAD.size :]
    return version, ormsgpack.unpackb(body[:length]), body[length:]


def put_together(version: int, about: object, arrays: bytes) -> bytes:
    """Bytes with a right checksum, whatever they say."""
    head = ormsgpack.packb(about)
    body = head + arrays
    return _HEAD.pack(b"PWTS", version, zlib.crc32(body), len(head)) + body


def packed(people: int = 3) -> bytes:
    """A memory as bytes."""
    return pack(memory(people))
