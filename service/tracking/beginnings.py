"""Ids for the first poses of a person, which a tracker has not confirmed yet: recorded video can be read backwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.ops.nms import iou
from engines.poses import Floats, Poses
from service.tracking.state import UNCONFIRMED

Frame = TypeVar("Frame")

_BACK_S = 0.6
"""How far back the first poses of a person are looked for. Trackers confirm people sooner."""
_GAP_S = 0.35
"""The longest time without a pose in between."""
_LEAST_IOU = 0.4
"""Overlap of the boxes of two successive poses of a person."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Frame]):
    """A frame whose unconfirmed people may still get an id. ids: (N,), changed in place."""

    frame: Frame
    poses: Poses
    ids: NDArray[np.int64]
    time: float


class Beginnings(Generic[Frame]):
    """Gives people their ids from their first pose on. Frames come out `_BACK_S` after they went in."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting[Frame]] = deque()
        self._known: set[int] = set()

    def push(self, frame: Frame, poses: Poses, timestamp: float) -> list[tuple[Frame, Poses]]:
        """Add the next frame; return those that are complete, in order. timestamp: seconds, ascending."""
        ids = np.full(len(poses), UNCONFIRMED) if poses.ids is None else poses.ids.copy()
        for row in np.flatnonzero(ids != UNCONFIRMED).tolist():
            if int(ids[row]) not in self._known:
                self._known.add(int(ids[row]))
                self._trace(int(ids[row]), poses.boxes, row, timestamp)
        self._waiting.append(_Waiting(frame, poses, ids, timestamp))
        complete = []
        while timestamp - self._waiting[0].time > _BACK_S:
            complete.append(self._next())
        return complete

    def flush(self) -> Iterator[tuple[Frame, Poses]]:
        """Return the frames that still wait, after the last one."""
        while self._waiting:
            yield self._next()

    def _next(self) -> tuple[Frame, Poses]:
        first = self._waiting.popleft()
        return first.frame, replace(first.poses, ids=first.ids)

    def _trace(self, number: int, boxes: Floats, row: int, time: float) -> None:
        """Follow the person in `row` of a frame's boxes back through poses without an id. Of two successive poses of a
        person, each overlaps no other pose more."""
        for moment in reversed(self._waiting):
            if time - moment.time > _GAP_S:
                return
            overlap = iou(boxes[row : row + 1], moment.poses.boxes)[0]
            if overlap.max(initial=0) < _LEAST_IOU:
                continue
            before = int(overlap.argmax())
            back = iou(moment.poses.boxes[before : before + 1], boxes)[0]
            if moment.ids[before] != UNCONFIRMED or back.argmax() != row:
                return
            moment.ids[before] = number
            boxes, row, time = moment.poses.boxes, before, moment.time
