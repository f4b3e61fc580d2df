"""The state of a tracker: plain arrays and numbers without pixels, which can be stored and restored elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNCONFIRMED = -1
"""The id of poses that are not confirmed as a person yet."""


@dataclass(frozen=True, slots=True)
class Track:
    """A person as of the last update.

    id: at least 1. age: seconds since the person was first seen. last_seen: timestamp of the last pose.
    velocity: (x, y) in pixels per second, without the camera's motion if flow has measured it.
    box: x1, y1, x2, y2 in pixels at the current time. visible: True if seen in the last update.
    """

    id: int
    age: float
    last_seen: float
    velocity: tuple[float, float]
    box: tuple[float, float, float, float]
    visible: bool


@dataclass(frozen=True, slots=True, eq=False)
class TrackState:
    """The T people of a tracker. Each array has one row per person. Positions are those at the current time.

    ids: (T,) int64, -1 if not confirmed yet. born, seen: (T,) float64 timestamps of the first and last pose.
    missed: (T,) float64 seconds of frames without a pose of the person; 0 for people in sight.
    velocities: (T, 2) float32 pixels per second, without the camera's motion. drifts: (T, 2) float32 pixels from the
    position by flow since the last pose to the position by constant velocity. boxes: (T, 4) float32 as in Poses.
    scores: (T,) float32 of the last pose. poses: (T, L, K, 3) float32 x, y, score of the last L poses, newest first;
    score 0 if there is none. colours: (T, K, 4) float32 red, green, blue 0..1 at each keypoint, and 1 if the colour is
    known. embeddings: (T, D) int8, see `embeddings`; D is 0 without an embedder.
    """

    ids: NDArray[np.int64]
    born: NDArray[np.float64]
    seen: NDArray[np.float64]
    missed: NDArray[np.float64]
    velocities: NDArray[np.float32]
    drifts: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    poses: NDArray[np.float32]
    colours: NDArray[np.float32]
    embeddings: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def zeros(people: int, history: int, keypoints: int, embedding: int = 0) -> TrackState:
        """Create rows of zeros."""
        return TrackState(
            ids=np.zeros(people, np.int64),
            born=np.zeros(people),
            seen=np.zeros(people),
            missed=np.zeros(people),
            velocities=np.zeros((people, 2), np.float32),
            drifts=np.zeros((people, 2), np.float32),
            boxes=np.zeros((people, 4), np.float32),
            scores=np.zeros(people, np.float32),
            poses=np.zeros((people, history, keypoints, 3), np.float32),
            colours=np.zeros((people, keypoints, 4), np.float32),
            embeddings=np.zeros((people, embedding), np.int8),
        )

    @staticmethod
    def join(parts: Sequence[TrackState]) -> TrackState:
        """Concatenate the people of `parts`."""
        return TrackState(*(np.concatenate(columns) for columns in zip(*map(_columns, parts), strict=True)))

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> TrackState:
        """Return the people at `index`, in its order, as new arrays unless it is a slice."""
        return TrackState(*(column[index] for column in _columns(self)))

    def copy(self) -> TrackState:
        """Return a deep copy."""
        return TrackState(*(column.copy() for column in _columns(self)))

    def fitted(self, history: int, keypoints: int) -> TrackState:
        """Return a copy with queues of `history` poses. Raises ValueError if the arrays are inconsistent."""
        fitted = TrackState.zeros(len(self), history, keypoints, self.embeddings.shape[1])
        for name in _FIELDS:
            given, wanted = getattr(self, name), getattr(fitted, name)
            if given.shape[0] != len(self) or given.shape[-1:] != wanted.shape[-1:] or given.ndim != wanted.ndim:
                raise ValueError(f"{name} is {given.shape} for {len(self)} people; it must be like {wanted.shape}")
            if not np.isfinite(given).all():
                raise ValueError(f"{name} holds values that are no numbers")
        if self.poses.shape[2] != keypoints:
            raise ValueError(f"these people have {self.poses.shape[2]} keypoints, not {keypoints}")
        for name in _FIELDS:
            if name != "poses":
                getattr(fitted, name)[...] = getattr(self, name)
        shared = min(history, self.poses.shape[1])
        fitted.poses[:, :shared] = self.poses[:, :shared]
        return fitted


@dataclass(frozen=True, slots=True, eq=False)
class AbsentState:
    """The A people whom a tracker remembers by their appearance alone, see `gallery`.

    ids: (A,) int64. born, seen: (A,) float64 timestamps of the first and last pose. boxes: (A, 4) float32, where they
    are expected; a box of zeros if that is not known. colours: (A, K, 4) uint8, as in TrackState times 255.
    embeddings: (A, D) int8, as in TrackState.
    """

    ids: NDArray[np.int64]
    born: NDArray[np.float64]
    seen: NDArray[np.float64]
    boxes: NDArray[np.float32]
    colours: NDArray[np.uint8]
    embeddings: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def nobody(keypoints: int, embedding: int = 0) -> AbsentState:
        """Create an empty state."""
        none = np.zeros(0)
        colours = np.zeros((0, keypoints, 4), np.uint8)
        embeddings = np.zeros((0, embedding), np.int8)
        return AbsentState(none.astype(np.int64), none, none, np.zeros((0, 4), np.float32), colours, embeddings)

    @staticmethod
    def join(parts: Sequence[AbsentState]) -> AbsentState:
        """Concatenate the people of `parts`."""
        return AbsentState(*(np.concatenate([getattr(part, name) for part in parts]) for name in _ABSENT))

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> AbsentState:
        """Return the people at `index`, in its order, as new arrays."""
        return AbsentState(*(getattr(self, name)[index] for name in _ABSENT))


@dataclass(frozen=True, slots=True, eq=False)
class TrackerState:
    """The state of a tracker, without its settings and pixels.

    skeleton: name of the skeleton. next_id: the next id to assign. timestamp: of the last frame in seconds; NaN before
    the first. width, height: of the last frame in pixels; 0 without pixels. absent: None if nobody is. embedder: the
    name of the network that the embeddings are of; empty without one.
    """

    skeleton: str
    next_id: int
    timestamp: float
    width: int
    height: int
    tracks: TrackState
    absent: AbsentState | None = None
    embedder: str = ""

    def with_embeddings(self, embedder: str, size: int) -> TrackerState:
        """Return the state with embeddings of a network. Those of another one are replaced by unknown ones."""
        if (self.embedder, self.tracks.embeddings.shape[1]) == (embedder, size):
            return self
        tracks = dataclasses.replace(self.tracks, embeddings=np.zeros((len(self.tracks), size), np.int8))
        absent = self.absent
        if absent is not None:
            absent = dataclasses.replace(absent, embeddings=np.zeros((len(absent), size), np.int8))
        return dataclasses.replace(self, tracks=tracks, absent=absent, embedder=embedder)


_ABSENT = tuple(field.name for field in dataclasses.fields(AbsentState))
_FIELDS = tuple(field.name for field in dataclasses.fields(TrackState))


def _columns(tracks: TrackState) -> list[NDArray[Any]]:
    return [getattr(tracks, name) for name in _FIELDS]
