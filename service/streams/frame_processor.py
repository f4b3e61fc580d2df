"""What a stream sees in one frame: decode, find the people, tell who is who."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.poses import Detections, Floats, Frame, Poses
from engines.skeletons import SKELETONS
from service.inference.stage import InferenceOptions
from service.inference.top_down import Pipeline
from service.media.image_files import FRAMES
from service.streams.protocol import Hello
from service.tracking.config import TrackerConfig
from service.tracking.zones import ZoneEvent
from service.tracking_workers.pool import TrackedStream
from service.tracking_workers.stream_tracker import Followed

_WEAKEST = TrackerConfig().weak_score
"""People of a lower score are not followed."""


@dataclass(frozen=True, slots=True)
class ProcessedFrame:
    """The people of one frame of `width` x `height` pixels, with ids, and what happened at the zones and lines.

    velocities: (N, 2) pixels a second, 0 for who has no id. ages: (N,) seconds since each was first seen.
    seconds: where the time went, by part.
    """

    poses: Poses
    velocities: Floats
    ages: Floats
    events: Sequence[ZoneEvent]
    width: int
    height: int
    seconds: dict[str, float]

    @property
    def worked(self) -> float:
        """The seconds that were spent on the frame, and not on waiting for others."""
        return sum(value for part, value in self.seconds.items() if part != "queue")


class FrameProcessor:
    """One stream's eyes, in front of what follows its people.

    pipeline: shared by all. hello: what is looked for. ask: as whom; its score is the least that is told of, not the
    least that is followed.
    """

    def __init__(self, pipeline: Pipeline, stream: TrackedStream, hello: Hello, options: InferenceOptions) -> None:
        self._pipeline = pipeline
        self._stream = stream
        self._hello = hello
        self._ask = replace(options, min_score=min(options.min_score, _WEAKEST))
        self._detected = -math.inf
        self._unsettled = True

    @property
    def state(self) -> bytes:
        """What is remembered as of the last frame, for whoever goes on with the stream; see `codec`."""
        return self._stream.state

    @property
    def next_id(self) -> int:
        """The first id that nobody has had."""
        return self._stream.next_id

    async def see(self, picture: bytes, taken: float, deadline: float) -> ProcessedFrame:
        """Everybody in an encoded picture. taken: seconds, never running backwards. deadline: monotonic seconds.

        Raises ImageError for what is no picture that a stream takes, and what `Pipeline.decode`, `Pipeline.frame` and
        `TrackedStream.follow` raise.
        """
        options = replace(self._ask, deadline=deadline)
        try:
            return await self._see(picture, taken, options)
        finally:
            if options.lease is not None:
                options.lease.release()  # the stream's next frame grows it again

    async def _see(self, picture: bytes, taken: float, options: InferenceOptions) -> ProcessedFrame:
        image, timing = await self._pipeline.decode(picture, options, accepted=FRAMES)
        people, expecting = None, 0.0
        if not self._detector_is_due(taken):
            people, expecting = await self._expected(image.pixels, taken)
        found, looking = await self._pipeline.frame(image.pixels, options, people)
        if people is None:
            self._detected = taken
        followed, following = await self._stream.follow(found, image.pixels, taken)
        self._unsettled = followed.unsettled
        poses, velocities, ages = self._told(found, followed)
        if image.scale != 1:
            poses, velocities = poses.scaled(image.scale), velocities * np.float32(image.scale)
        if self._hello.skeleton != "native":
            poses = poses.as_skeleton(SKELETONS[self._hello.skeleton])
        seconds = {**(timing + looking).parts(), "track": expecting + following}
        return ProcessedFrame(poses, velocities, ages, followed.events, image.width, image.height, seconds)

    def _detector_is_due(self, taken: float) -> bool:
        recently = taken - self._detected < self._hello.detect_every
        return not (recently and self._pipeline.detects) or self._unsettled

    async def _expected(self, frame: Frame, taken: float) -> tuple[Detections, float]:
        """Where the people are who are known.

        A pose's score is weighed with its detection's, and would sink from frame to frame if that was the last pose's.
        """
        boxes, seconds = await self._stream.expected(frame, taken)
        boxes = boxes[: self._ask.max_people]
        return Detections(boxes, np.ones(len(boxes), np.float32)), seconds

    def _told(self, found: Poses, followed: Followed) -> tuple[Poses, Floats, Floats]:
        """Of what is known that which the client wants to be told."""
        keypoints = found.keypoints if followed.keypoints is None else followed.keypoints
        known = replace(found, keypoints=keypoints, ids=followed.ids)
        wanted = found.scores >= self._hello.min_score
        return known.select(wanted), followed.velocities[wanted], followed.ages[wanted]
