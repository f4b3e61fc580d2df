"""Estimates and tracks the frames of a video in order, resuming from a journal of the frames estimated earlier.

`VideoTracker` does what all runs have in common; subclasses decide how many frames are estimated at once.
`posewire video` uses `ConcurrentVideoTracker`, `posewire batch` uses `bulk.video_shard.LockstepVideoTracker`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np

from engines.poses import Detections, Frame, Poses
from engines.skeletons import Skeleton
from service.batching import Priority
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.media.video_reader import VideoError, VideoFrame, VideoReader
from service.offline.journal import DamagedJournalError, Journal
from service.offline.video_records import JournaledFrame, pack, unpack
from service.tracking import PoseTracker, TrackerConfig
from service.tracking.detector_pace import Attention, DetectEvery, detector_is_due

T = TypeVar("T")

_MOST_IN_FLIGHT = 16
"""Frames estimated at once: enough to fill every batch."""
PIXEL_BYTES = 256 << 20
"""Default memory limit for the pixels of frames that are estimated, and for those of frames that wait otherwise."""
_DETECTION_S = 0.05
"""What a run of the detector costs, where it decides by itself when to run."""


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """Which people to report. min_score: 0..1. detect_every: see `detector_is_due`. With None, the detector runs as on
    a machine on which it takes `_DETECTION_S`, so that results do not depend on timing. forget_seconds: how long people
    who are out of sight are remembered.
    """

    min_score: float = 0.3
    max_people: int = 50
    detect_every: DetectEvery = 0.0
    forget_seconds: float = TrackerConfig().forget_seconds


class FrameEstimator(Protocol):
    """Finds the people in frames: with networks of this process (`ServedEstimator`), or with those of a server."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def skeleton(self) -> Skeleton:
        """The skeleton of the poses."""

    @property
    def detects(self) -> bool:
        """True if a detector finds the people. It is skipped if their boxes are given."""

    async def estimate(self, frame: Frame, options: InferenceOptions, people: Detections | None = None) -> Poses:
        """Return all people in a frame, best first. people: their boxes, from a tracker; None to detect them."""


@dataclass(frozen=True, slots=True)
class ServedEstimator:
    """A FrameEstimator with a model of this process."""

    served: ServedModel

    @property
    def model(self) -> str:
        return self.served.model.name

    @property
    def skeleton(self) -> Skeleton:
        return self.served.skeleton

    @property
    def detects(self) -> bool:
        return self.served.model.detector is not None

    async def estimate(self, frame: Frame, options: InferenceOptions, people: Detections | None = None) -> Poses:
        poses, _ = await self.served.pipeline.frame(frame, options, people)
        return poses


@dataclass(eq=False)
class VideoTracker(ABC):
    """Estimates and tracks the frames of one video. pool: runs the tracker; None runs it on the event loop.
    weak: yield the people below the minimum score, too, for the caller to leave out.

    ids: of all people who were reported. notes: messages for the user. Both are complete when all frames have been
    tracked.
    """

    video: VideoReader
    estimator: FrameEstimator
    options: VideoOptions
    journal: Journal
    pool: Executor | None = None
    weak: bool = False
    ids: set[int] = field(default_factory=set, init=False)
    notes: tuple[str, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self._tracker = PoseTracker(self.estimator.skeleton, TrackerConfig(forget_seconds=self.options.forget_seconds))
        self._detected_at = -np.inf  # seconds
        # The tracker uses weak poses as well; only those that reach the user's min_score are reported.
        least = min(self.options.min_score, self._tracker.config.weak_score)
        self._inference_options = InferenceOptions(
            priority=Priority.BULK, max_people=self.options.max_people, min_score=least, admitted=True
        )

    async def tracked(self) -> AsyncGenerator[tuple[VideoFrame, Poses], None]:
        """Yield every frame with its people and their ids. Callers that stop early must close the generator.

        Raises JournalError and VideoError.
        """
        async with aclosing(self._estimated()) as estimated:
            async for frame, estimate in estimated:
                yield frame, await self._run(lambda f=frame, e=estimate: self._track(f, e))  # type: ignore[misc]

    @abstractmethod
    def _estimated(self) -> AsyncGenerator[tuple[VideoFrame, JournaledFrame], None]:
        """Yield every frame with its estimate, in order, and append new estimates to the journal."""

    def _track(self, frame: VideoFrame, estimate: JournaledFrame) -> Poses:
        if estimate.detected:
            self._detected_at = frame.seconds
        poses = self._tracker.update(estimate.poses, frame.pixels, frame.seconds)
        strong = poses.select(poses.scores >= self.options.min_score)
        if strong.ids is not None:
            self.ids |= set(strong.ids[strong.ids >= 0].tolist())
        return poses if self.weak else strong

    async def _run(self, work: Callable[[], T]) -> T:
        if self.pool is None:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)


@dataclass(eq=False)
class ConcurrentVideoTracker(VideoTracker):
    """Estimates several frames at once; they share batches as requests of a server do. One journal record per frame.

    pool: also decodes the video. pixel_bytes: memory limit for the pixels of the frames that are estimated at once.
    """

    pixel_bytes: int = PIXEL_BYTES

    async def _estimated(self) -> AsyncGenerator[tuple[VideoFrame, JournaledFrame], None]:
        in_flight: deque[tuple[VideoFrame, JournaledFrame | asyncio.Task[JournaledFrame]]] = deque()
        frames = iter(self.video)
        try:
            while True:
                while len(in_flight) < self._most_in_flight() and (
                    frame := await self._run(lambda: next(frames, None))
                ):
                    in_flight.append(
                        (frame, self._journaled(frame.number) or asyncio.create_task(self._estimate(frame)))
                    )
                if not in_flight:
                    return
                frame, estimate = in_flight.popleft()
                if isinstance(estimate, asyncio.Task):
                    estimate = await estimate
                    self.journal.append(pack(estimate))
                elif estimate.pts != frame.pts:
                    raise VideoError(f"{self.journal.path} does not fit the video; delete it to start anew")
                yield frame, estimate
        finally:
            for _, estimate in in_flight:
                if isinstance(estimate, asyncio.Task):
                    estimate.cancel()

    def _most_in_flight(self) -> int:
        """How many frames are estimated at once. One if the boxes in a frame depend on the frame before."""
        if self.options.detect_every != 0:
            return 1
        bytes_each = self.video.info.width * self.video.info.height * 3
        return max(2, min(_MOST_IN_FLIGHT, self.pixel_bytes // bytes_each))

    def _journaled(self, number: int) -> JournaledFrame | None:
        """The journal's next frame. A damaged record and all records after it are dropped."""
        record = self.journal.next()
        if record is None:
            return None
        try:
            return unpack(record, self.estimator.skeleton)
        except DamagedJournalError:
            self.journal.cut(keep=number)
            self.notes = (f"the journal is damaged after {number} frames, so the rest was done anew",)
            return None

    async def _estimate(self, frame: VideoFrame) -> JournaledFrame:
        people = await self._proposals(frame)
        poses = await self.estimator.estimate(frame.pixels, self._inference_options, people)
        return JournaledFrame(frame.pts, people is None, poses)

    async def _proposals(self, frame: VideoFrame) -> Detections | None:
        """The boxes that the tracker predicts; None if the detector runs on this frame."""
        passed, attention = frame.seconds - self._detected_at, Attention.of(self._tracker)
        due = detector_is_due(self.options.detect_every, passed, attention, _DETECTION_S)
        if due or not self.estimator.detects:
            return None
        return await self._run(lambda: self._tracker.propose(frame.pixels, frame.seconds))
