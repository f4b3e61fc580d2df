"""Processes the frames of one stream: decodes a frame, finds people and tracks them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.poses import Floats, Frame, Poses
from engines.skeletons import Skeleton
from service.formats.posewire import people_list
from service.inference.people_embedder import PeopleEmbedder
from service.inference.pipeline import Pipeline
from service.inference.stage import InferenceOptions, Timing
from service.inference.video_stage import StreamDecoder
from service.media.image_files import FRAMES
from service.media.pixels import DecodedImage
from service.rules.results import BodyResults
from service.streams.groups import GroupMember
from service.streams.protocol import Hello
from service.tracking.config import TrackerConfig
from service.tracking.detector_pace import Attention, detector_is_due
from service.tracking.events import TrackingEvent
from service.tracking_workers.pool import TrackedStream
from service.tracking_workers.state import TrackingInputs
from service.tracking_workers.stream_tracker import TrackingResult

_MIN_TRACKED_SCORE = TrackerConfig().weak_score
"""People with a lower score are not tracked."""
_NEWEST = 0.5
"""The weight of the last run of the detector in the mean of what a run costs."""


class NoPictureError(Exception):
    """Chunks of video were decoded, and have no picture to show."""


@dataclass(frozen=True, slots=True)
class ProcessedFrame:
    """The people of one frame of `width` x `height` pixels, with ids, and the events at zones and lines and of rules.

    velocities: (N, 2) pixels a second, 0 for people without an id. ages: (N,) seconds since each person was first seen.
    seconds: where the time went, by part. bodies: what the rules say about the people, None without rules. everybody:
    the people who were found, also those who are not reported, as the model sees them; None if the frame was reduced
    for it.
    """

    poses: Poses
    velocities: Floats
    ages: Floats
    events: Sequence[TrackingEvent]
    width: int
    height: int
    seconds: dict[str, float]
    bodies: BodyResults | None = None
    everybody: Poses | None = None

    def people_documents(self, *, extras: bool) -> list[dict[str, object]]:
        """The people as in a stream's results, for orjson with OPT_SERIALIZE_NUMPY. extras: velocities and ages."""
        people = people_list(self.poses)
        if extras:
            for person, velocity, age in zip(people, self.velocities.round(2), self.ages.round(3), strict=True):
                person |= {"velocity": velocity, "age_s": age}
        if self.bodies is not None:
            for person, members in zip(people, self.bodies.people_documents(len(people)), strict=True):
                person |= members
        return people

    @property
    def worked(self) -> float:
        """Seconds spent on the frame, without waiting in queues."""
        return sum(value for part, value in self.seconds.items() if part != "queue")


class FrameProcessor:
    """Processes one stream's frames.

    pipeline: shared by all streams. stream: tracks the people. options: of the client. People below its minimum score
    are tracked, if they score enough for the tracker, but not reported. skeleton: of the results; None: the pipeline's.
    video: decodes the chunks of a stream of video. embedder: says what people look like. member: of a group of streams.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        stream: TrackedStream,
        hello: Hello,
        options: InferenceOptions,
        skeleton: Skeleton | None = None,
        video: StreamDecoder | None = None,
        *,
        embedder: PeopleEmbedder | None = None,
        member: GroupMember | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._stream = stream
        self._hello = hello
        self._skeleton = skeleton
        self._video = video
        self._embedder = embedder
        self._member = member
        self._embeddings: Floats | None = None
        self._options = replace(options, min_score=min(options.min_score, _MIN_TRACKED_SCORE))
        self._detected = -math.inf
        self._cost = 0.0
        self._attention = Attention()

    @property
    def state(self) -> bytes:
        return self._stream.state

    @property
    def needs_key_frame(self) -> bool:
        """True if no chunk of video can be decoded before the next key frame."""
        return self._video is not None and self._video.needs_key

    @property
    def next_id(self) -> int:
        return self._stream.next_id

    async def process(
        self, picture: bytes, timestamp: float, deadline: float, earlier: Sequence[bytes] = ()
    ) -> ProcessedFrame:
        """Return the people in an encoded picture. timestamp: seconds, never decreasing. deadline: monotonic seconds.

        earlier: chunks of video before the one that is `picture`. Raises NoPictureError if none of them has a picture,
        ImageError if the bytes are no picture that streams accept, or no video, and the errors of `Pipeline.image` and
        `TrackedStream.update`.
        """
        options = replace(self._options, deadline=deadline)
        try:
            return await self._process(picture, timestamp, options, earlier)
        finally:
            if options.lease is not None:
                options.lease.release()  # the lease grows again with the stream's next frame

    async def process_frame(self, frame: Frame, timestamp: float, deadline: float) -> ProcessedFrame:
        """Return the people in a frame that was decoded elsewhere, as `process` does. frame: (h, w, 3) RGB."""
        options = replace(self._options, deadline=deadline)
        image = DecodedImage(frame, frame.shape[1], frame.shape[0])
        return await self._estimate(image, Timing(), timestamp, options)

    async def _process(
        self, picture: bytes, timestamp: float, options: InferenceOptions, earlier: Sequence[bytes]
    ) -> ProcessedFrame:
        if self._video is None and self._detector_is_due(timestamp):
            image, found, timing = await self._pipeline.decode_and_estimate(picture, options, accepted=FRAMES)
            self._learn(timing, timestamp)
            return await self._track(image, found, timing, timestamp, options)
        image, timing = await self._decode(picture, options, earlier)
        return await self._estimate(image, timing, timestamp, options)

    async def _estimate(
        self, image: DecodedImage, timing: Timing, timestamp: float, options: InferenceOptions
    ) -> ProcessedFrame:
        """Find the people with the detector if it is due, else where the tracker expects them; then track them."""
        people, proposing = None, 0.0
        if not (due := self._detector_is_due(timestamp)):
            people, proposing = await self._stream.propose(image.pixels, timestamp)
            people = people.select(slice(options.max_people))
        found, inference = await self._pipeline.frame(image.pixels, options, people)
        timing += inference
        if due:
            self._learn(timing, timestamp)
        return await self._track(image, found, timing, timestamp, options, proposing)

    def _learn(self, timing: Timing, timestamp: float) -> None:
        """The detector has run: remember when, and what it costs."""
        self._cost += (timing.detect - self._cost) * (_NEWEST if math.isfinite(self._detected) else 1.0)
        self._detected = timestamp

    async def _track(
        self,
        image: DecodedImage,
        found: Poses,
        timing: Timing,
        timestamp: float,
        options: InferenceOptions,
        proposing: float = 0.0,
    ) -> ProcessedFrame:
        tracked, tracking = await self._update(found, image.pixels, timestamp)
        if self._embedder is not None and tracked.look_at is not None:
            self._embeddings, embedding = await self._embedder.embed(image.pixels, tracked.look_at, options)
            timing += embedding
        self._attention = tracked.attention
        poses, velocities, ages, bodies = self._reported(found, tracked)
        if image.scale != 1:
            poses, velocities = poses.scaled(image.scale), velocities * np.float32(image.scale)
        if self._skeleton is not None:
            poses = poses.as_skeleton(self._skeleton)
        seconds = {**timing.parts(), "track": proposing + tracking}
        everybody = found if image.scale == 1 else None
        size = image.width, image.height
        return ProcessedFrame(poses, velocities, ages, tracked.events, *size, seconds, bodies, everybody)

    async def _update(self, found: Poses, frame: Frame, timestamp: float) -> tuple[TrackingResult, float]:
        """Track the people, with the embeddings of the last frame, and what other streams of the group know."""
        inputs = None
        if self._member is not None:
            inputs = replace(self._member.inputs(timestamp), embeddings=self._embeddings)
        elif self._embeddings is not None:
            inputs = TrackingInputs(self._embeddings)
        self._embeddings = None
        try:
            tracked, seconds = await self._stream.update(found, frame, timestamp, inputs)
        except BaseException:
            if self._member is not None:
                self._member.failed()
            raise
        if self._member is not None:
            self._member.learn(tracked, timestamp)
        return tracked, seconds

    async def _decode(
        self, picture: bytes, options: InferenceOptions, earlier: Sequence[bytes]
    ) -> tuple[DecodedImage, Timing]:
        if self._video is None:
            return await self._pipeline.decode(picture, options, accepted=FRAMES)
        image, timing = await self._video.decode((*earlier, picture), self._pipeline.needs, options)
        if image is None:
            raise NoPictureError
        return image, timing

    def _detector_is_due(self, timestamp: float) -> bool:
        passed = timestamp - self._detected
        every = self._hello.detect_every
        return not self._pipeline.detects or detector_is_due(every, passed, self._attention, self._cost)

    def _reported(self, found: Poses, tracked: TrackingResult) -> tuple[Poses, Floats, Floats, BodyResults | None]:
        """Return the poses, velocities, ages and rules' results of the people with the hello's minimum score."""
        keypoints = found.keypoints if tracked.keypoints is None else tracked.keypoints
        poses = replace(found, keypoints=keypoints, ids=tracked.ids)
        # More may have been looked for than are reported
        wanted = np.flatnonzero(found.scores >= self._hello.min_score)[: self._hello.max_people]
        bodies = None if tracked.bodies is None else tracked.bodies.select(wanted)
        return poses.select(wanted), tracked.velocities[wanted], tracked.ages[wanted], bodies
