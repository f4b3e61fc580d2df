"""The messages between the server and a tracking worker. Each is sent with its length in front."""

from __future__ import annotations

import pickle  # safe between a process and its child, over a socket that no other process has
import struct
from dataclasses import dataclass
from typing import Any

from engines.poses import Floats
from engines.skeletons import Skeleton
from service.tracking_workers.state import TrackingInputs, TrackingOptions

LENGTH = struct.Struct(">I")
Columns = tuple[Floats, Floats, Floats, Floats, Floats | None]
"""keypoints, keypoint_scores, boxes, scores and keypoints_3d of Poses."""


@dataclass(frozen=True, slots=True)
class StartStream:
    """Start a tracker in a slot. skeleton: of the poses, which may be a user's own. state: packed, to start from."""

    slot: int
    skeleton: Skeleton
    options: TrackingOptions
    state: bytes


@dataclass(frozen=True, slots=True, eq=False)
class TrackFrame:
    """Track the poses of a frame or, without poses, return the expected boxes of tracked people.

    offset, shape: of the frame, in the arena. new_frame: it differs from the last request's. timestamp: seconds.
    inputs: with poses.
    """

    slot: int
    offset: int
    shape: tuple[int, ...]
    new_frame: bool
    timestamp: float
    poses: Columns | None
    inputs: TrackingInputs | None = None


@dataclass(frozen=True, slots=True)
class EndStream:
    """Discard the tracker of a slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The first message of a worker: it has started and takes requests."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The result of a request that raised. traceback: the worker's."""

    traceback: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a request. seconds: how long the worker computed."""

    number: int
    value: Any
    seconds: float


Request = StartStream | TrackFrame | EndStream


def encode(message: object) -> bytes:
    """Return a message's length and body."""
    body = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(body)) + body


def decode(body: bytes | bytearray | memoryview) -> Any:
    return pickle.loads(body)  # noqa: S301 - see above
