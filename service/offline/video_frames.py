"""The people of a video's frames, in order and with identities: from the networks, or from an earlier run's journal."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from engines.poses import Detections, Poses
from service.batching import Priority
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.media.video import VideoError, VideoFrame, VideoReader
from service.offline.journal import Journal, JournalError
from service.offline.video_journal import JournaledFrame, pack, unpack
from service.tracking import PoseTracker

T = TypeVar("T")

_AT_ONCE = 16
"""Frames under way at once: enough to fill every batch."""
_AT_ONCE_BYTES = 256 << 20
"""The memory that they may take."""
_ROUNDING_S = 1e-4
"""How much too early the detector may look: times of frames are rounded."""


@dataclass(frozen=True, slots=True)
class Seek:
    """Whom to look for. min_score: 0..1. detect_every: seconds between looks of the detector, 0 for every frame.

    In between, the estimator looks where the tracker expects the people; the detector comes at once when one is lost.
    """

    min_score: float = 0.3
    max_people: int = 50
    detect_every: float = 0.0

    def about(self) -> dict[str, object]:
        """For the journal."""
        return asdict(self)


def tracked_ask(seek: Seek, tracker: PoseTracker) -> InferenceOptions:
    """What to ask of each frame: the tracker follows weak poses too, the user is told of those that score enough."""
    least = min(seek.min_score, tracker.config.weak_score)
    return InferenceOptions(priority=Priority.BULK, max_people=seek.max_people, min_score=least, admitted=True)


class FramePoses:
    """Estimates and tracks the frames of one video. pool: runs what takes longer than an event loop has.

    notes: what the user should know afterwards.
    """

    def __init__(self, video: VideoReader, served: ServedModel, seek: Seek, journal: Journal, pool: Executor) -> None:
        self._video = video
        self._pipeline = served.pipeline
        self._skeleton = served.skeleton
        self._detects = served.model.detector is not None
        self._seek = seek
        self._journal = journal
        self._pool = pool
        self._tracker = PoseTracker(served.skeleton)
        self._detected = -np.inf
        self._ask = tracked_ask(seek, self._tracker)
        self.notes: tuple[str, ...] = ()

    async def tracked(self) -> AsyncGenerator[tuple[VideoFrame, Poses], None]:
        """Every frame with its people, ids among them. To be closed by whoever leaves early.

        Raises VideoError where the journal does not fit the video.
        """
        line: deque[tuple[VideoFrame, asyncio.Future[JournaledFrame], bool]] = deque()
        pictures = iter(self._video)
        try:
            while True:
                while len(line) < self._room() and (picture := await self._aside(lambda: next(pictures, None))):
                    line.append(self._begin(picture))
                if not line:
                    return
                picture, looking, new = line.popleft()
                look = await looking
                if look.pts != picture.pts:
                    raise VideoError(f"{self._journal.path} does not fit the video; delete it to start anew")
                if new:
                    self._journal.append(pack(look))
                yield picture, await self._aside(lambda p=picture, k=look: self._track(p, k))  # type: ignore[misc]
        finally:
            for _, looking, _ in line:
                looking.cancel()

    def _room(self) -> int:
        """How many frames may be under way. One, where what is looked at in a frame depends on the one before."""
        if self._seek.detect_every > 0:
            return 1
        bytes_each = self._video.info.width * self._video.info.height * 3
        return max(2, min(_AT_ONCE, _AT_ONCE_BYTES // bytes_each))

    def _begin(self, picture: VideoFrame) -> tuple[VideoFrame, asyncio.Future[JournaledFrame], bool]:
        """Start on a frame, unless the journal knows it; the last is whether it has to learn of it."""
        look = self._remembered(picture.number)
        if look is None:
            return picture, asyncio.ensure_future(self._look(picture)), True
        known: asyncio.Future[JournaledFrame] = asyncio.get_running_loop().create_future()
        known.set_result(look)
        return picture, known, False

    def _remembered(self, number: int) -> JournaledFrame | None:
        """What the journal has of a frame. From a damaged record on it is done anew."""
        record = self._journal.next()
        if record is None:
            return None
        try:
            return unpack(record, self._skeleton)
        except (JournalError, TypeError, ValueError):
            self._journal.cut(keep=number)
            self.notes = (f"the journal is damaged after {number} frames, so the rest was done anew",)
            return None

    async def _look(self, picture: VideoFrame) -> JournaledFrame:
        people = await self._proposals(picture)
        poses, _ = await self._pipeline.frame(picture.pixels, self._ask, people)
        return JournaledFrame(picture.pts, people is None, poses)

    async def _proposals(self, picture: VideoFrame) -> Detections | None:
        """Where to look without the detector; None where it is its turn."""
        due = picture.seconds - self._detected >= self._seek.detect_every - _ROUNDING_S
        if due or self._tracker.unsettled or not self._detects:
            return None
        expected = await self._aside(lambda: self._tracker.propose(picture.pixels, picture.seconds))
        # A pose's score is weighed with its detection's: one from the pose before would make it sink frame by frame.
        return Detections(expected.boxes, np.ones(len(expected), np.float32))

    def _track(self, picture: VideoFrame, look: JournaledFrame) -> Poses:
        if look.detected:
            self._detected = picture.seconds
        poses = self._tracker.update(look.poses, picture.pixels, picture.seconds)
        return poses.select(poses.scores >= self._seek.min_score)

    async def _aside(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
