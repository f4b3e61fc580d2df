"""What a tracker remembers of people: plain arrays and numbers, no pixels, to be stored and taken up elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNCONFIRMED = -1
"""The id of a pose that is nobody yet."""


@dataclass(frozen=True, slots=True)
class Track:
    """One person as of the last update.

    id: at least 1. age: seconds since the person was first seen. last_seen: the timestamp of the last pose.
    velocity: (x, y) in pixels a second; the camera's own motion taken off where flow knows it.
    box: x1, y1, x2, y2 in frame pixels, carried to the present. visible: seen in the last update.
    """

    id: int
    age: float
    last_seen: float
    velocity: tuple[float, float]
    box: tuple[float, float, float, float]
    visible: bool


@dataclass(frozen=True, slots=True, eq=False)
class TrackState:
    """The T people that a tracker remembers, one row of each array a person, positions carried to the present.

    ids: (T,) int64, -1 for who is not confirmed yet. born, seen: (T,) float64 timestamps of the first and last pose.
    missed: (T,) float64 seconds that the tracker has looked in vain; 0 for who is in sight.
    centers: (T, 2) float32 where constant velocity puts the middle of the person. velocities: (T, 2) float32 pixels
    a second, the camera's motion taken off. boxes: (T, 4) float32 x1, y1, x2, y2. scores: (T,) float32 of the last
    pose. poses: (T, L, K, 3) float32 x, y, score of the last L poses, the newest first; scores of 0 where none is.
    """

    ids: NDArray[np.int64]
    born: NDArray[np.float64]
    seen: NDArray[np.float64]
    missed: NDArray[np.float64]
    centers: NDArray[np.float32]
    velocities: NDArray[np.float32]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    poses: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ids)

    @staticmethod
    def empty(history: int, keypoints: int) -> TrackState:
        """Nobody."""
        return TrackState(
            ids=np.zeros(0, np.int64),
            born=np.zeros(0),
            seen=np.zeros(0),
            missed=np.zeros(0),
            centers=np.zeros((0, 2), np.float32),
            velocities=np.zeros((0, 2), np.float32),
            boxes=np.zeros((0, 4), np.float32),
            scores=np.zeros(0, np.float32),
            poses=np.zeros((0, history, keypoints, 3), np.float32),
        )

    @staticmethod
    def join(parts: Sequence[TrackState]) -> TrackState:
        """The people of `parts`, in order."""
        return TrackState(*(np.concatenate(columns) for columns in zip(*map(_columns, parts), strict=True)))

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> TrackState:
        """The people that `index` names, in its order, as new arrays unless it is a slice."""
        return TrackState(*(column[index] for column in _columns(self)))

    def copy(self) -> TrackState:
        """The same in arrays of its own."""
        return TrackState(*(column.copy() for column in _columns(self)))


@dataclass(frozen=True, slots=True, eq=False)
class TrackerState:
    """All of a tracker but its settings and its pixels.

    skeleton: the name of the keypoint set. next_id: the first id not given yet. timestamp: of the last frame, seconds,
    NaN before the first. width, height: of the last frame in pixels, 0 where none was given.
    """

    skeleton: str
    next_id: int
    timestamp: float
    width: int
    height: int
    tracks: TrackState


_FIELDS = tuple(field.name for field in dataclasses.fields(TrackState))


def _columns(tracks: TrackState) -> list[NDArray[Any]]:
    return [getattr(tracks, name) for name in _FIELDS]
