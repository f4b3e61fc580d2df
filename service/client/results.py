"""The server's answers as dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

UNREADABLE = (AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""Exceptions of reading a message that is not Posewire's."""

Document = Mapping[str, Any]

_EVENT_MEMBERS = frozenset({"kind", "name", "id", "direction", "seconds"})


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A keypoint. x, y: pixels. score: 0..1."""

    x: float
    y: float
    score: float


@dataclass(frozen=True, slots=True)
class Person:
    """A person in an image.

    box: x1, y1, x2, y2 in pixels. keypoints: in the skeleton's order. keypoints_3d: metres relative to the hips, from
    models that estimate them. id: identity in a stream; -1 if not confirmed yet, None outside of streams. velocity:
    pixels per second, and age_s: seconds since first seen, in streams with `extras`.

    In streams with rules, what they ask for, as far as it is known: angles and angles_3d in degrees, posture with its
    confidence in 0..1, speed in m/s, and repetitions so far, by name.
    """

    score: float
    box: tuple[float, float, float, float]
    keypoints: tuple[Keypoint, ...]
    keypoints_3d: tuple[tuple[float, float, float], ...] | None = None
    id: int | None = None
    velocity: tuple[float, float] | None = None
    age_s: float | None = None
    angles: Mapping[str, float] = field(default_factory=dict)
    angles_3d: Mapping[str, float] = field(default_factory=dict)
    posture: str | None = None
    posture_confidence: float | None = None
    speed: float | None = None
    repetitions: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoseResult:
    """The people in an image of `width` x `height` pixels. timing_ms: the server's time per step."""

    width: int
    height: int
    model: str
    skeleton: str
    people: tuple[Person, ...]
    timing_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Event:
    """An event at a zone or line, or of a rule. direction, seconds: None if the kind of event does not have them.

    id: of the person. values: further members, see GET /docs/stream.
    """

    kind: str
    name: str
    id: int
    direction: str | None = None
    seconds: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gap:
    """A lost connection. seconds: until the next one. kept: True if ids continue. reason: why it was lost."""

    seconds: float
    kept: bool
    reason: str


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The result of one frame of a stream.

    frame: the frame's number, counted across all connections. timestamp: the frame's timestamp in milliseconds.
    dropped: number of frames before it without a result. age_ms: time since the frame's arrival at the server. gap:
    set if the connection was lost since the last result. problem: why the frame could not be processed; or "".
    timing_ms: the server's time per step. occupancy: people in each zone, and counts at each zone and line, in streams
    with these rules.
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
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    occupancy: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def read_pose(document: Document) -> PoseResult:
    """Read the answer of POST /pose. Raises one of UNREADABLE for any other document."""
    return PoseResult(
        width=document["width"],
        height=document["height"],
        model=document["model"],
        skeleton=document["skeleton"],
        people=tuple(map(_person, document["people"])),
        timing_ms=document["timing_ms"],
    )


def read_result(document: Document, frame: int, dropped: int, gap: Gap | None) -> StreamResult:
    """Read a stream's message about a frame."""
    result = StreamResult(frame, document["timestamp"], document["age_ms"], dropped, gap=gap)
    if document["type"] == "error":
        error = document["error"]
        return replace(result, problem=error.get("detail") or error["title"])
    return replace(
        result,
        people=tuple(map(_person, document["people"])),
        events=tuple(map(_event, document.get("events", ()))),
        width=document["width"],
        height=document["height"],
        timing_ms=document.get("timing_ms", {}),
        occupancy=document.get("occupancy", {}),
        counts=document.get("counts", {}),
    )


def _event(document: Document) -> Event:
    known = {name: value for name, value in document.items() if name in _EVENT_MEMBERS}
    return Event(**known, values={name: value for name, value in document.items() if name not in _EVENT_MEMBERS})


def _person(document: Document) -> Person:
    metres, velocity = document.get("keypoints_3d"), document.get("velocity")
    posture = document.get("posture") or {}
    return Person(
        score=document["score"],
        box=tuple(document["box"]),
        keypoints=tuple(Keypoint(*row) for row in document["keypoints"]),
        keypoints_3d=None if metres is None else tuple(map(tuple, metres)),
        id=document.get("id"),
        velocity=None if velocity is None else tuple(velocity),
        age_s=document.get("age_s"),
        angles=document.get("angles", {}),
        angles_3d=document.get("angles_3d", {}),
        posture=posture.get("name"),
        posture_confidence=posture.get("confidence"),
        speed=document.get("speed"),
        repetitions=document.get("repetitions", {}),
    )
