"""One run of a camera: its frames are looked at, its people tracked, and its results given to watchers."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from engines.skeletons import Skeleton
from service.batching import Priority
from service.cameras.camera import Camera, CameraFrame, CameraState
from service.cameras.entry import CameraEntry
from service.cameras.feed import CameraResult, FeedState, ResultFeed
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.streams.clock import FrameClock
from service.streams.flow_control import ConcurrencyLimiter
from service.streams.frame_processor import FrameProcessor
from service.tracking_workers.pool import TrackingWorkers
from service.tracking_workers.state import StreamState

log = logging.getLogger(__name__)


class CannotServeError(Exception):
    """A camera's entry cannot be served here, for example because its model is not. The message is for the user."""


class FindModel(Protocol):
    """Finds what an entry names."""

    def __call__(self, model: str | None, skeleton: str) -> tuple[ServedModel, Skeleton]:
        """Return the model, and the skeleton of results. Raises CannotServeError."""


@dataclass(frozen=True, slots=True)
class CameraParts:
    """What the cameras of a server share with its streams.

    limiter: of a model's frames under way. frame_seconds: from a frame's arrival to its deadline. max_people: in one
    frame, at most. hosts: the setting `camera_hosts`.
    """

    find: FindModel
    workers: TrackingWorkers
    limiter: Callable[[str], ConcurrencyLimiter]
    frame_seconds: float
    max_people: int
    hosts: tuple[str, ...] = ()


@dataclass(eq=False)
class CameraRun:
    """Runs a camera until it ends or is cancelled.

    feed: gets the results. stream: the tracker's state to continue from, None for a new session; afterwards that of
    the last frame, packed, is in `state`. number: of the next result. failed: frames that could not be processed.
    """

    name: str
    entry: CameraEntry
    parts: CameraParts
    feed: ResultFeed
    stream: StreamState | None = None
    number: int = 0
    state: bytes = b""
    failed: int = 0
    people: int = 0
    camera: CameraState = field(default_factory=CameraState)

    async def run(self) -> None:
        """Raises CannotServeError, CameraError if the source cannot be read, and ends with a source that ends."""
        parts, hello = self.parts, self.entry.hello()
        served, skeleton = parts.find(self.entry.model, self.entry.skeleton)
        options = InferenceOptions(
            client=f"camera:{self.name}",
            priority=Priority.LIVE,
            max_people=min(hello.max_people or parts.max_people, parts.max_people),
            min_score=hello.min_score,
        )
        clock = FrameClock(math.nan if self.stream is None else self.stream.tracker.timestamp)
        last = 0
        async with (
            parts.workers.stream(served.skeleton, hello.tracking, self.stream) as tracked,
            self._open() as camera,
        ):
            processor = FrameProcessor(served.pipeline, tracked, hello, options, skeleton)
            self.state = processor.state
            limiter = parts.limiter(served.model.name)
            async for frame in camera:
                async with limiter.slot(options.client) as slot:
                    result = await self._process(processor, frame, clock.convert(None, frame.time), last)
                    if result is not None:
                        slot.worked = result.processed.worked
                        self.feed.put(result)
                        self.state, last = processor.state, frame.number

    def _open(self) -> Camera:
        options = self.entry.source_options(self.parts.hosts)
        return Camera(self.entry.address, options, fps=self.entry.most_fps, changed=self._changed)

    async def _process(
        self, processor: FrameProcessor, frame: CameraFrame, taken: float, last: int
    ) -> CameraResult | None:
        """Return the result of a frame. None if it failed: the next one may not."""
        loop = asyncio.get_running_loop()
        try:
            processed = await processor.process_frame(frame.pixels, taken, frame.arrived + self.parts.frame_seconds)
        except Exception as error:  # noqa: BLE001 - what fails a frame of a stream does not end the stream either
            self.failed += 1
            log.warning("a frame of the camera %s failed: %s", self.name, error)
            return None
        self.people = len(processed.poses)
        number, self.number = self.number, self.number + 1
        age = loop.time() - frame.arrived
        return CameraResult(number, frame.pixels, processed, taken, age, frame.number - last - 1)

    def _changed(self, state: CameraState) -> None:
        self.camera = state
        self.feed.tell(FeedState(state.phase, state.reason))
