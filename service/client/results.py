"""What a server answers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

UNREADABLE = (KeyError, TypeError, ValueError)
"""What reading a message raises that is not Posewire's."""

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A point of a body. x, y: pixels. score: 0..1."""

    x: float
    y: float
    score: float


@dataclass(frozen=True, slots=True)
class Person:
    """One person of a picture.

    box: x1, y1, x2, y2 in pixels. keypoints: in the skeleton's order. keypoints_3d: metres around the hips, from models
    that give them. id: of who this is in a stream; -1 for who is not certain yet, None outside of streams. velocity:
    pixels a second, and age_s: seconds since first seen, of streams with `extras`.
    """

    score: float
    box: tuple[float, float, float, float]
    keypoints: tuple[Keypoint, ...]
    keypoints_3d: tuple[tuple[float, float, float], ...] | None = None
    id: int | None = None
    velocity: tuple[float, float] | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class PoseResult:
    """Everybody in an image of `width` x `height` pixels. timing_ms: where the time went at the server."""

    width: int
    height: int
    model: str
    skeleton: str
    people: tuple[Person, ...]
    timing_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a zone or line. direction, seconds: where the kind has them."""

    kind: str
    name: str
    id: int
    direction: str | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """The connection was lost. seconds: until there was another. kept: whether ids go on. reason: why."""

    seconds: float
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What came of one frame of a stream.

    frame: its number, over all connections. timestamp: its own, milliseconds. dropped: how many frames before it have
    no result. age_ms: from its arrival at the server. gap: the connection was lost since the result before. problem:
    why there are no people, if the frame itself was at fault; else empty.
    """

    frame: int
    timestamp: float | None
    age_ms: float
    dropped: int
    people: tuple[Person, ...] = ()
    events: tuple[Event, ...] = ()
    width: int = 0
    height: int = 0
    gap: Gap | None = None
    problem: str = ""


def read_pose(document: Document) -> PoseResult:
    """The answer of POST /pose. Raises KeyError, TypeError or ValueError for anything else."""
    return PoseResult(
        width=document["width"],
        height=document["height"],
        model=document["model"],
        skeleton=document["skeleton"],
        people=tuple(map(_person, document["people"])),
        timing_ms=document["timing_ms"],
    )


def read_result(document: Document, frame: int, dropped: int, gap: Gap | None) -> StreamResult:
    """A message of a stream that is about a frame."""
    result = StreamResult(frame, document["timestamp"], document["age_ms"], dropped, gap=gap)
    if document["type"] == "error":
        error = document["error"]
        return replace(result, problem=error.get("detail") or error["title"])
    return replace(
        result,
        people=tuple(map(_person, document["people"])),
        events=tuple(Event(**event) for event in document.get("events", ())),
        width=document["width"],
        height=document["height"],
    )


def _person(document: Document) -> Person:
    metres, velocity = document.get("keypoints_3d"), document.get("velocity")
    return Person(
        score=document["score"],
        box=tuple(document["box"]),
        keypoints=tuple(Keypoint(*row) for row in document["keypoints"]),
        keypoints_3d=None if metres is None else tuple(map(tuple, metres)),
        id=document.get("id"),
        velocity=None if velocity is None else tuple(velocity),
        age_s=document.get("age_s"),
    )
