"""The results of a camera, for any number of watchers at their own pace."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from engines.poses import Frame
from service.streams.frame_processor import ProcessedFrame


@dataclass(frozen=True, slots=True, eq=False)
class CameraResult:
    """A frame of a camera with its people.

    number: of results of the camera's session, from 0. time: of the frame, seconds since 1970. age: seconds from its
    arrival until its people were known. dropped: frames since the last result that were not looked at.
    """

    number: int
    pixels: Frame
    processed: ProcessedFrame
    time: float
    age: float
    dropped: int


class ResultFeed:
    """Holds the newest result. Belongs to one event loop. A watcher that is slow misses results; nobody waits for it.

    newest: None until there is one, and after the camera has been paused.
    """

    def __init__(self) -> None:
        self.newest: CameraResult | None = None
        self._changed = asyncio.Event()

    def put(self, result: CameraResult) -> None:
        """Replace the newest result, and wake all watchers."""
        self.newest = result
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def watched(self) -> Literal["", "results", "pictures"]:
        """What somebody here wants of this camera."""
        return ""

    async def after(self, number: int) -> CameraResult:
        """Wait for a result with a higher number than this. -1 takes any."""
        while self.newest is None or self.newest.number <= number:
            await self._changed.wait()
        return self.newest
