"""Results of cameras as bytes: all that they have comes back, and bytes of others do no harm."""

from __future__ import annotations

import dataclasses

import numpy as np
import ormsgpack
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.cameras.feed import CameraResult
from service.cameras.ownership.result_codec import NO_PICTURE, ResultError, pack_result, unpack_result
from service.streams.frame_processor import ProcessedFrame
from service.tracking.events import TrackingEvent


def some_result(people: int = 2) -> CameraResult:
    """A result with people, an event and all optional members of poses."""
    rng = np.random.default_rng(people)
    poses = Poses(
        rng.uniform(0, 100, (people, 17, 2)).astype(np.float32),
        rng.uniform(0, 1, (people, 17)).astype(np.float32),
        rng.uniform(0, 100, (people, 4)).astype(np.float32),
        rng.uniform(0, 1, people).astype(np.float32),
        COCO_17,
        np.arange(1, people + 1),
        rng.uniform(-1, 1, (people, 17, 3)).astype(np.float32),
    )
    velocities, ages = rng.uniform(size=(people, 2)).astype(np.float32), rng.uniform(size=people).astype(np.float32)
    events = [TrackingEvent("enter", "door", 1, 17.5, 3, values={"angle": 90.0, "side": "left"})]
    processed = ProcessedFrame(poses, velocities, ages, events, 640, 480, {"track": 0.1})
    return CameraResult(7, np.zeros((480, 640, 3), np.uint8), processed, 1e9 + 0.25, 0.05, 3)


def test_a_result_comes_back_with_all_that_it_has_but_its_pixels() -> None:
    before = some_result()
    after, picture = unpack_result(pack_result(before, b"JPEG"))
    assert picture == b"JPEG"
    assert after.pixels is NO_PICTURE
    assert (after.number, after.time, after.age, after.dropped) == (7, 1e9 + 0.25, 0.05, 3)
    assert list(after.processed.events) == list(before.processed.events)
    assert after.processed.seconds == before.processed.seconds
    assert after.processed.poses.skeleton == COCO_17
    for field in dataclasses.fields(Poses):
        if field.name != "skeleton":
            ours, theirs = getattr(before.processed.poses, field.name), getattr(after.processed.poses, field.name)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype


def test_nobody_in_a_frame_and_no_picture() -> None:
    after, picture = unpack_result(pack_result(some_result(0)))
    assert (len(after.processed.poses), picture) == (0, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        ormsgpack.packb([2, [], {}, b""]),
        ormsgpack.packb([1, [1, 1.0, 1.0, 1], "x", b""]),
        ormsgpack.packb([1, [1, 1.0, 1.0, 1], {"CameraEntry": {}}, b""]),
        ormsgpack.packb([1, [1, 1.0, 1.0, 1], {"ProcessedFrame": {"poses": 1}}, b""]),
        ormsgpack.packb([1, [1, 1.0, 1.0, 1], {"~array": ["O8", [1], b"12345678"]}, b""]),
        ormsgpack.packb([1, [1, 1.0, 1.0, 1], {"~array": ["f4", [10**9, 10**9], b""]}, b""]),
    ],
)
def test_bytes_that_are_no_result_are_refused(data: bytes) -> None:
    with pytest.raises(ResultError):
        unpack_result(data)


def test_every_cut_and_every_flipped_byte_is_refused_or_a_result() -> None:
    data = pack_result(some_result())
    rng = np.random.default_rng(1)
    for at in rng.integers(0, len(data), 300).tolist():
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
            try:
                unpack_result(damaged)
            except ResultError:
                continue
