"""The results and the state of a camera, for any number of watchers at their own pace."""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from engines.poses import Frame, Poses
from service.streams.frame_processor import ProcessedFrame
from service.streams.protocol import CloseCode, Encoding

_MOST_EVENTS = 256
"""Events that are kept for watchers that miss results."""
_WANTED_S = 5.0
"""How long pictures count as wanted after somebody has wanted one."""
_BLURRED_S, _MOST_BLURRED = 0.3, 64
"""Seconds for which a face is blurred after it was last seen: a detector may miss it for once. And frames, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraResult:
    """A frame of a camera with its people.

    number: of results of the camera's session, from 0. pixels: empty if it is another replica's and nobody here wants
    pictures. time: of the frame, seconds since 1970. age: seconds from its arrival until its people were known.
    dropped: frames since the last result that were not looked at.
    """

    number: int
    pixels: Frame
    processed: ProcessedFrame
    time: float
    age: float
    dropped: int


@dataclass(frozen=True, slots=True)
class FeedState:
    """What the camera does now, for watchers. name: a word. reason: why, for people; may be empty."""

    name: str
    reason: str = ""


class ResultFeed:
    """Holds the newest result. Belongs to one event loop. A watcher that is slow misses results; nobody waits for it.

    tag: tells feeds apart. newest: None until there is one, and after the camera has been paused. frame: number of the
    newest result's frame since the feed began, where frames count that were not looked at; -1 before the first.
    state: of the camera. ended: why there will be no more. encoded: the newest result's members in messages, once a
    watcher has wanted them.
    """

    def __init__(self) -> None:
        self.newest: CameraResult | None = None
        self.frame = -1
        self.state = FeedState("connecting")
        self.ended: tuple[CloseCode, str] | None = None
        self.encoded: dict[Encoding, dict[str, Any]] = {}
        self.tag = secrets.token_hex(4)
        self._put_at = 0.0
        self._pictures_wanted_at = -math.inf
        self._changed = asyncio.Event()
        self._listeners: set[Callable[[], None]] = set()
        self._events: deque[tuple[int, dict[str, object]]] = deque(maxlen=_MOST_EVENTS)
        self._faces: deque[tuple[float, Poses]] = deque(maxlen=_MOST_BLURRED)

    def put(self, result: CameraResult) -> None:
        """Replace the newest result, and wake all watchers."""
        self.newest = result
        self.frame += 1 + result.dropped
        self.encoded = {}
        self._put_at = asyncio.get_running_loop().time()
        if result.processed.everybody is not None:
            self._faces.append((result.time, result.processed.everybody))
            while self._faces[0][0] < result.time - _BLURRED_S:
                self._faces.popleft()
        self._events.extend((self.frame, event.document()) for event in result.processed.events)
        self._wake()

    @property
    def age(self) -> float:
        """Seconds since the frame of the newest result arrived. There must be one."""
        assert self.newest is not None  # noqa: S101 - the caller has seen it
        return self.newest.age + asyncio.get_running_loop().time() - self._put_at

    def clear(self) -> None:
        """Forget the newest result."""
        self.newest = None
        self._faces.clear()

    def tell(self, state: FeedState) -> None:
        """Replace the camera's state, and wake all watchers."""
        if state != self.state:
            self.state = state
            self._wake()

    def end(self, code: CloseCode, reason: str) -> None:
        """End all watchers: the camera is gone, or is another one now."""
        self.ended = code, reason
        self._wake()

    def events_after(self, frame: int) -> list[dict[str, object]]:
        """Return what has happened after a frame, as in results: the newest 256 events at most."""
        return [event for at, event in self._events if at > frame]

    @property
    def watched(self) -> Literal["", "results", "pictures"]:
        """What somebody wants of this camera. Whoever wants pictures gets results, too."""
        if asyncio.get_running_loop().time() - self._pictures_wanted_at < _WANTED_S:
            return "pictures"
        return "results" if self._listeners else ""

    def want_pictures(self) -> None:
        """Somebody wants a picture now, and probably soon again."""
        self._pictures_wanted_at = asyncio.get_running_loop().time()

    def faces(self) -> tuple[Poses, ...]:
        """Return the people of the newest frames, whose faces are blurred in a picture of the newest one."""
        return tuple(poses for _, poses in self._faces)

    async def after(self, number: int) -> CameraResult:
        """Wait for a result with a higher number than this. -1 takes any."""
        while self.newest is None or self.newest.number <= number:
            await self._changed.wait()
        return self.newest

    @contextmanager
    def listening(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` on every change, for as long as the context lasts."""
        self._listeners.add(listener)
        try:
            yield
        finally:
            self._listeners.discard(listener)

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for listener in self._listeners:
            listener()
