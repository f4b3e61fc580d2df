"""What happens with the results of a camera: printed, recorded, shown. All methods block; one thread calls them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol

import cv2
import numpy as np
import orjson

from engines.poses import Frame
from service.cameras.camera import CameraState
from service.media.video_reader import VideoInfo
from service.media.video_writer import VideoWriter
from service.watching.frames import WatchedFrame

What = Literal["results", "events", "nothing"]

_CLOCK = Fraction(1, 1000)
_RATE = Fraction(25)
"""Frames a second for the encoder, which needs some number. Each frame has its own time."""


class Output(Protocol):
    """Takes the results of a camera."""

    def write(self, watched: WatchedFrame, drawn: Callable[[], Frame]) -> None:
        """Take the next result. drawn: gives its frame with the people drawn, made once for all outputs."""

    def close(self) -> None:
        """Finish."""


class Printer:
    """Prints JSON lines: each result, or only events, and each change of the camera's state.

    zones: whether there are zones or lines. emit: writes bytes.
    """

    def __init__(self, what: What, zones: bool, emit: Callable[[bytes], None]) -> None:
        self._what = what
        self._zones = zones
        self._emit = emit

    def write(self, watched: WatchedFrame, drawn: Callable[[], Frame]) -> None:  # noqa: ARG002
        """See Output."""
        if self._what == "results":
            self._print(watched.document(with_events=self._zones))
        elif self._what == "events":
            for event in watched.events:
                self._print({"type": "event", "timestamp": round(1e3 * watched.frame.time, 1), **event})

    def change(self, state: CameraState, seconds: float) -> None:
        """Print the camera's new state. seconds: since 1970."""
        if self._what != "nothing":
            reason = {"reason": state.reason} if state.reason else {}
            self._print({"type": "camera", "timestamp": round(1e3 * seconds, 1), "state": state.phase, **reason})

    def close(self) -> None:
        """See Output."""

    def _print(self, document: object) -> None:
        self._emit(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))


class Recording:
    """Writes the frames that were looked at to a video, at their times. plain: without people drawn.

    All frames are recorded in the size of the first; those of other shapes get black bars.
    """

    def __init__(self, path: Path, *, plain: bool) -> None:
        self._path = path
        self._plain = plain
        self._writer: VideoWriter | None = None
        self._size = 0, 0
        self._began = 0.0
        self._last = -1

    def write(self, watched: WatchedFrame, drawn: Callable[[], Frame]) -> None:
        """See Output. Raises VideoError."""
        pixels = watched.frame.pixels if self._plain else drawn()
        if self._writer is None:
            height, width = pixels.shape[:2]
            self._size, self._began = (width, height), watched.frame.time
            info = VideoInfo(width, height, _RATE, None, _CLOCK, Fraction(1))
            self._writer = VideoWriter(self._path, self._path.suffix, info, None)
        self._last = max(self._last + 1, round((watched.frame.time - self._began) / _CLOCK))
        self._writer.write(fitted(pixels, *self._size), self._last)

    def close(self) -> None:
        """See Output. Raises VideoError."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.__exit__(None, None, None)


def fitted(pixels: Frame, width: int, height: int) -> Frame:
    """Shrink or enlarge a frame to a size, with black bars where its shape differs."""
    if pixels.shape[:2] == (height, width):
        return pixels
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = max(1, min(width, round(pixels.shape[1] * scale))), max(1, min(height, round(pixels.shape[0] * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = small
    return canvas
