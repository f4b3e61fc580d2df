"""Finds the people of a camera in this process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace

import numpy as np

from engines.poses import Frame, Poses
from engines.skeletons import Skeleton
from service.batching import Priority
from service.cameras.camera import Camera, CameraFrame
from service.inference.model_registry import ServedModel
from service.inference.stage import InferenceOptions
from service.rules.results import BodyResults
from service.tracking.config import TrackerConfig
from service.tracking.detector_pace import Attention, DetectEvery, detector_is_due
from service.tracking_workers.codec import pack
from service.tracking_workers.stream_tracker import StreamTracker, TrackingResult, initial_state
from service.watching.frames import WatchedFrame, WatchOptions


class LocalWatcher:
    """Finds and tracks people with a model of this process, as the server does it for a stream.

    skeleton: of the results, None for the model's own. every: when the detector runs.
    """

    def __init__(
        self,
        served: ServedModel,
        options: WatchOptions,
        skeleton: Skeleton | None = None,
        every: DetectEvery = None,
    ) -> None:
        self._pipeline = served.pipeline
        self._wanted = options
        self._skeleton = skeleton
        self._every = every
        # The tracker uses weak poses as well; only those that reach the user's min_score are reported.
        least = min(options.min_score, TrackerConfig().weak_score)
        self._options = InferenceOptions(
            priority=Priority.LIVE, max_people=options.max_people, min_score=least, admitted=True
        )
        state = pack(initial_state(served.skeleton, options.tracking))
        self._tracker = StreamTracker(served.skeleton, options.tracking, state)
        self._attention = Attention()
        self._detected, self._cost = -math.inf, 0.0

    async def watch(self, camera: Camera) -> AsyncGenerator[WatchedFrame, None]:
        """See Watcher."""
        loop = asyncio.get_running_loop()
        number, last = 0, 0
        async for frame in camera:
            people, events, bodies = await self._look(frame)
            age, dropped = 1e3 * (loop.time() - frame.arrived), frame.number - last - 1
            members = bodies.people_documents(len(people))
            yield WatchedFrame(frame, number, people, events, age, dropped, members, bodies.frame_document())
            number, last = number + 1, frame.number

    async def _look(self, frame: CameraFrame) -> tuple[Poses, list[Mapping[str, object]], BodyResults]:
        found = await self._estimate(frame.pixels, frame.time)
        tracked = await asyncio.to_thread(self._tracker.update, found, frame.pixels, frame.time)
        self._attention = tracked.attention
        reported, bodies = self._reported(found, tracked)
        return reported, [event.document() for event in tracked.events], bodies

    async def _estimate(self, pixels: Frame, seconds: float) -> Poses:
        if not self._pipeline.detects or detector_is_due(
            self._every, seconds - self._detected, self._attention, self._cost
        ):
            found, timing = await self._pipeline.frame(pixels, self._options)
            # The first run has costs that later ones have not.
            self._cost = timing.detect if math.isinf(self._detected) else (self._cost + timing.detect) / 2
            self._detected = seconds
            return found
        people = await asyncio.to_thread(self._tracker.propose, pixels, seconds)
        found, _ = await self._pipeline.frame(pixels, self._options, people.select(slice(self._options.max_people)))
        return found

    def _reported(self, found: Poses, tracked: TrackingResult) -> tuple[Poses, BodyResults]:
        keypoints = found.keypoints if tracked.keypoints is None else tracked.keypoints
        poses = replace(found, keypoints=keypoints, ids=tracked.ids)
        wanted = np.flatnonzero(found.scores >= self._wanted.min_score)
        poses, bodies = poses.select(wanted), (tracked.bodies or BodyResults()).select(wanted)
        return poses if self._skeleton is None else poses.as_skeleton(self._skeleton), bodies
