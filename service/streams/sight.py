"""What a stream sees in one frame: decode, find the people, tell who is who."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from engines.poses import Detections, Floats, Frame, Poses
from engines.skeletons import SKELETONS
from service.pipelines import Pipeline
from service.stages import Ask
from service.streams.memory import Memory
from service.streams.protocol import Hello
from service.tracking import PoseTracker
from service.tracking.smoothing import OneEuro
from service.tracking.zones import Event, Zones

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Seen:
    """The people of one frame of `width` x `height` pixels, with ids, and what happened at the zones and lines.

    velocities: (N, 2) pixels a second, 0 for who has no id. ages: (N,) seconds since each was first seen.
    seconds: where the time went, by part.
    """

    poses: Poses
    velocities: Floats
    ages: Floats
    events: Sequence[Event]
    width: int
    height: int
    seconds: dict[str, float]

    @property
    def worked(self) -> float:
        """The seconds that were spent on the frame, and not on waiting for others."""
        return sum(value for part, value in self.seconds.items() if part != "queue")


class Sight:
    """One stream's eyes and memory.

    pipeline: shared by all. hello: what is looked for. ask: as whom; its score is the least that is told of, not the
    least that is tracked. pool: runs the tracker, whose optical flow takes milliseconds that the event loop has not.
    memory: to go on from.
    """

    def __init__(
        self, pipeline: Pipeline, tracker: PoseTracker, hello: Hello, ask: Ask, pool: Executor, memory: Memory | None
    ) -> None:
        self._pipeline = pipeline
        self._tracker = tracker
        self._hello = hello
        self._ask = replace(ask, min_score=min(ask.min_score, tracker.config.weak_score))
        self._pool = pool
        self._zones = Zones(hello.zones, hello.lines, lost_seconds=tracker.config.lost_seconds)
        self._smoother = OneEuro() if hello.smoothing else None
        if memory is not None:
            tracker.restore(memory.tracker)
            if memory.places == hello.places:
                self._zones.restore(memory.zones)
        self._detected = -math.inf
        self._memory = Memory(tracker.state(), self._zones.state(), hello.places)

    @property
    def memory(self) -> Memory:
        """What is remembered as of the last frame, for whoever goes on with the stream."""
        return self._memory

    async def see(self, picture: bytes, taken: float, deadline: float) -> Seen:
        """Everybody in an encoded picture. taken: seconds, never running backwards. deadline: monotonic seconds.

        Raises ImageError for what is no picture, and what `Batcher.submit` raises.
        """
        ask = replace(self._ask, deadline=deadline)
        image, timing = await self._pipeline.decode(picture, ask)
        people, expecting = None, 0.0
        if not self._detector_is_due(taken):
            people, expecting = await self._aside(lambda: self._expected(image.pixels, taken))
        found, looking = await self._pipeline.frame(image.pixels, ask, people)
        if people is None:
            self._detected = taken
        poses, velocities, ages, events, tracking = await self._aside(lambda: self._track(found, image.pixels, taken))
        if image.scale != 1:
            poses, velocities = poses.scaled(image.scale), velocities * np.float32(image.scale)
        if self._hello.skeleton != "native":
            poses = poses.as_skeleton(SKELETONS[self._hello.skeleton])
        seconds = {**dict((timing + looking).parts()), "track": expecting + tracking}
        return Seen(poses, velocities, ages, events, image.width, image.height, seconds)

    def _detector_is_due(self, taken: float) -> bool:
        recently = taken - self._detected < self._hello.detect_every
        return not (recently and self._pipeline.detects) or self._tracker.unsettled

    def _expected(self, frame: Frame, taken: float) -> tuple[Detections, float]:
        """Where the people are whom the tracker knows.

        A pose's score is weighed with its detection's, and would sink from frame to frame if that was the last pose's.
        """
        started = time.perf_counter()
        boxes = self._tracker.propose(frame, taken).boxes[: self._ask.max_people]
        return Detections(boxes, np.ones(len(boxes), np.float32)), time.perf_counter() - started

    def _track(self, poses: Poses, frame: Frame, taken: float) -> tuple[Poses, Floats, Floats, Sequence[Event], float]:
        started = time.perf_counter()
        height, width = frame.shape[:2]
        poses = self._tracker.update(poses, frame, taken)
        events = self._zones.update(poses, width, height, taken)
        self._memory = Memory(self._tracker.state(), self._zones.state(), self._hello.places)
        if self._smoother is not None:
            poses = self._smoother.smooth(poses, taken)
        poses = poses.select(poses.scores >= self._hello.min_score)
        velocities, ages = self._tracks_of(poses)
        return poses, velocities, ages, events, time.perf_counter() - started

    async def _aside(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _tracks_of(self, poses: Poses) -> tuple[Floats, Floats]:
        velocities = np.zeros((len(poses), 2), np.float32)
        ages = np.zeros(len(poses), np.float32)
        tracks = {track.id: track for track in self._tracker.tracks} if self._hello.extras else {}
        for n, number in enumerate(() if poses.ids is None else poses.ids.tolist()):
            if (track := tracks.get(number)) is not None:
                velocities[n], ages[n] = track.velocity, track.age
        return velocities, ages
