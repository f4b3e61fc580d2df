"""From bytes to people: decode, detect, crop, estimate, as coroutines over the Batchers that all requests share."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from engines.families import Detector, Estimator
from engines.families.regions import PADDING
from engines.poses import Detections, Frame, Poses
from service.inference.admission import PipelineAdmission, Work
from service.inference.decode_stage import Decoder
from service.inference.stage import InferenceOptions, Stage, Timing
from service.media.decode import DecodedImage
from service.media.image_files import IMAGES

_DETAIL = 3
"""How many times its detector's input a frame should measure along one side, for the sake of the crops."""
_SMOOTHING = 0.05
"""Weight of the newest frame in the running mean of people per frame."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The people of one image in its own pixels, best first. width, height: of the image as displayed.

    whole: all pixels of the image, (height, width, 3) RGB, where they were asked for.
    """

    poses: Poses
    width: int
    height: int
    timing: Timing
    whole: Frame | None = None


class Pipeline(ABC):
    """From an encoded image to everybody in it. What kinds of pipelines differ in is `frame`.

    decoder: shared by all pipelines. needs: the (width, height) of which a frame should fill one.
    """

    def __init__(self, decoder: Decoder, needs: tuple[int, int], admission: PipelineAdmission | None = None) -> None:
        self._decoder = decoder
        self._needs = needs
        self._admission = admission or PipelineAdmission()

    @property
    @abstractmethod
    def stages(self) -> Sequence[Stage[Detections] | Stage[Poses]]:
        """The networks in the order in which a frame meets them."""

    @property
    @abstractmethod
    def detects(self) -> bool:
        """Whether it looks for people first, which whoever knows where they are can spare it."""

    @abstractmethod
    async def frame(
        self, frame: Frame, options: InferenceOptions, people: Detections | None = None
    ) -> tuple[Poses, Timing]:
        """Everybody in a decoded frame, best first, in its pixels.

        people: where to look, from a tracker that knows; without it the pipeline finds out.
        """

    @abstractmethod
    def _work(self, images: int) -> Work:
        """What so many images bring to the queues of the networks."""

    def test(self, options: InferenceOptions, images: int = 1) -> None:
        """Raise OverloadedError or DeadlineExceededError where `admit` would; holds nothing."""
        self._admission.test([(self._decoder.batcher, images), *self._work(images)], options)

    def admit(
        self, options: InferenceOptions, images: int = 1, *, data: Sequence[bytes] = (), draw: bool = False
    ) -> AbstractContextManager[InferenceOptions]:
        """Enter with so many images, or be refused before any work is spent: see `PipelineAdmission.admit`.

        data: the images, where they are there already. draw: pictures of them will be drawn.
        """
        queues = [self._decoder.queue_for(one) for one in data] or [self._decoder.batcher] * images
        decoding = [(queue, queues.count(queue)) for queue in dict.fromkeys(queues)]
        drawing = [(self._decoder.drawing, images)] if draw else []
        return self._admission.admit([*decoding, *self._work(images), *drawing], options)

    async def image(self, data: bytes, options: InferenceOptions, *, whole: bool = False) -> Estimate:
        """Everybody in an encoded image. whole: keep all of its pixels, to draw on.

        Raises ImageError for bytes that are no picture within the limits, and what `Decoder.decode` and `frame` raise.
        """
        image, decoding = await self.decode(data, options, whole=whole)
        poses, timing = await self.frame(image.pixels, options)
        if image.scale != 1:
            poses = poses.scaled(image.scale)
        return Estimate(poses, image.width, image.height, timing + decoding, image.whole)

    async def decode(
        self, data: bytes, options: InferenceOptions, *, whole: bool = False, accepted: Collection[str] = IMAGES
    ) -> tuple[DecodedImage, Timing]:
        """The pixels of an encoded image, as many as the pipeline needs. See `Decoder.decode`."""
        idle = self._decoder.batcher.idle and all(stage.batcher.idle for stage in self.stages)
        return await self._decoder.decode(data, self._needs, options, idle=idle, whole=whole, accepted=accepted)

    async def draw(self, estimate: Estimate, media_type: str, options: InferenceOptions) -> tuple[bytes, Timing]:
        """The picture of an estimate whose pixels were kept, which are written on. See `Decoder.draw`."""
        if estimate.whole is None:
            raise ValueError("the pixels of this image were not kept")
        return await self._decoder.draw(estimate.whole, estimate.poses, media_type, options)


class TopDown(Pipeline):
    """Detect the people, then estimate each of them; without a detector the whole frame is one person.

    Crops of all frames of all clients meet in the estimator's Batcher.
    """

    def __init__(
        self,
        decoder: Decoder,
        estimator: Estimator,
        estimate: Stage[Poses],
        detector: Detector | None = None,
        detect: Stage[Detections] | None = None,
        *,
        admission: PipelineAdmission | None = None,
    ) -> None:
        if detector is not None:
            # Crops need more pixels than the detector does: people are small parts of the frame.
            needs = (_DETAIL * detector.pixels.width, _DETAIL * detector.pixels.height)
        else:  # the frame is the part of the input that is not padding
            needs = (int(estimator.pixels.width / PADDING), int(estimator.pixels.height / PADDING))
        super().__init__(decoder, needs, admission)
        self._estimator = estimator
        self._estimate = estimate
        self._detector = detector
        self._detect = detect
        self._people = 1.0
        self._looks = len(detector.regions(640, 480)) if detector is not None else 0  # of a frame of the usual shape

    @property
    def stages(self) -> Sequence[Stage[Detections] | Stage[Poses]]:
        """See `Pipeline.stages`."""
        return [self._estimate] if self._detect is None else [self._detect, self._estimate]

    @property
    def detects(self) -> bool:
        """See `Pipeline.detects`; without a detector the whole frame is one person."""
        return self._detect is not None

    def _work(self, images: int) -> Work:
        people = (self._estimate.batcher, images * math.ceil(self._people))
        if self._detect is None:
            return [people]
        return [(self._detect.batcher, images * self._looks), people]

    async def frame(
        self, frame: Frame, options: InferenceOptions, people: Detections | None = None
    ) -> tuple[Poses, Timing]:
        """See `Pipeline.frame`."""
        people, timing = await self._find(frame, options) if people is None else (people, Timing())
        if not len(people):
            return Poses.empty(self._estimator.skeleton), timing
        parts, estimating = await self._estimate.see(frame, self._estimator.regions(people), options)
        poses = self._estimator.merge(Poses.join(parts), people)
        return asked_for(poses, options), timing + estimating

    async def _find(self, frame: Frame, options: InferenceOptions) -> tuple[Detections, Timing]:
        height, width = frame.shape[:2]
        if self._detector is None or self._detect is None:
            return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)), Timing()
        regions = self._detector.regions(width, height)
        parts, timing = await self._detect.see(frame, regions, options)
        people = self._detector.merge(parts, regions).select(slice(options.max_people))
        self._people += _SMOOTHING * (len(people) - self._people)
        return people, timing


def asked_for(poses: Poses, options: InferenceOptions) -> Poses:
    """Of the poses those that `ask` wants, best first."""
    if len(poses) == 1 and poses.scores[0] >= options.min_score:
        return poses  # as before a webcam
    order = np.argsort(-poses.scores, kind="stable")
    return poses.select(order[poses.scores[order] >= options.min_score][: options.max_people])


async def estimate_all(
    pipeline: Pipeline, images: Sequence[bytes], options: InferenceOptions
) -> list[Estimate | BaseException]:
    """Every image's people, or what went wrong with it, in order. All are under way at once, so that they batch."""
    tasks = (pipeline.image(data, options) for data in images)
    return await asyncio.gather(*tasks, return_exceptions=True)
