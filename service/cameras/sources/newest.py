"""The newest frame of a source, between the thread that decodes it and the one that sends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import av


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """A frame as FFmpeg gives it. number: from 1. time: of its arrival, seconds since 1970. arrived: the same on
    the monotonic clock.
    """

    number: int
    picture: av.VideoFrame
    time: float
    arrived: float


class NewestFrame:
    """Holds the newest frame. Thread-safe. decoded: frames so far. damaged: packets that could not be decoded.

    changed: is notified of each frame; its lock protects everything here.
    """

    def __init__(self, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.changed = threading.Condition()
        self.frame: DecodedFrame | None = None
        self.damaged = 0
        self._clock = clock
        self._monotonic = monotonic

    @property
    def decoded(self) -> int:
        return 0 if self.frame is None else self.frame.number

    def put(self, picture: av.VideoFrame) -> None:
        """Replace the frame by the next one."""
        with self.changed:
            self.frame = DecodedFrame(self.decoded + 1, picture, self._clock(), self._monotonic())
            self.changed.notify_all()
