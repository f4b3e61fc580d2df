"""What goes between the server and a process that follows: requests and replies, each with its length before it."""

from __future__ import annotations

import pickle  # between a process and its own child, over a socket that nobody else has
import struct
from dataclasses import dataclass
from typing import Any

from engines.poses import Floats
from service.streams.protocol import Hello

LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class Begin:
    """Follow a stream. skeleton: its name. state: to go on from."""

    slot: int
    skeleton: str
    hello: Hello
    state: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Expect:
    """Where are the people of the stream in the frame? offset, shape: of the frame, in the arena. taken: seconds."""

    slot: int
    offset: int
    shape: tuple[int, ...]
    taken: float


@dataclass(frozen=True, slots=True, eq=False)
class Follow:
    """Who are these? The columns of Poses. fresh: the frame is another than the last request was about."""

    slot: int
    offset: int
    shape: tuple[int, ...]
    fresh: bool
    taken: float
    keypoints: Floats
    keypoint_scores: Floats
    boxes: Floats
    scores: Floats
    keypoints_3d: Floats | None


@dataclass(frozen=True, slots=True)
class End:
    """Forget a stream."""

    slot: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The first that a process says: it has started, and takes requests."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request came to this."""

    why: str


@dataclass(frozen=True, slots=True)
class Reply:
    """seconds: of work."""

    number: int
    value: Any
    seconds: float


Request = Begin | Expect | Follow | End


def encode(message: object) -> bytes:
    """A message with its length before it."""
    body = pickle.dumps(message, protocol=5)
    return LENGTH.pack(len(body)) + body


def decode(body: bytes | bytearray | memoryview) -> Any:
    """The message of a body."""
    return pickle.loads(body)  # noqa: S301 - see above
