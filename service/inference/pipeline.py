"""The pipeline from an encoded image to its people: coroutines over the Batchers that all requests share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.poses import Detections, Frame, Poses
from service.inference.decode_stage import DecodeStage
from service.inference.pipeline_admission import PipelineAdmission, Work
from service.inference.stage import InferenceOptions, PendingFrame, Stage, Timing
from service.inference.video_stage import StreamDecoder
from service.media.decode import DecodedImage
from service.media.draw import DrawOptions
from service.media.image_files import IMAGES
from service.media.jpeg import UnusualJpegError, seems_quick
from service.media.video_decoder import VideoCodec
from service.quota import Lease


@dataclass(frozen=True, slots=True)
class Estimate:
    """The people of one image in its own pixels, best first. width, height: of the image as displayed.

    whole: all pixels of the image, (height, width, 3) RGB, if requested.
    """

    poses: Poses
    width: int
    height: int
    timing: Timing
    whole: Frame | None = None


class Pipeline(ABC):
    """From an encoded image to all people in it. Each kind of pipeline implements `frame`.

    decoder: the decode stage that all pipelines share. needs: (width, height); a frame should fill one of them.
    """

    def __init__(
        self, decoder: DecodeStage, needs: tuple[int, int], admission: PipelineAdmission | None = None
    ) -> None:
        self._decoder = decoder
        self._needs = needs
        self._admission = admission or PipelineAdmission()

    @property
    def needs(self) -> tuple[int, int]:
        """Width and height in pixels; a frame should fill one of them."""
        return self._needs

    @property
    @abstractmethod
    def stages(self) -> Sequence[Stage[Any]]:
        """The stages in the order in which a frame passes them."""

    @property
    @abstractmethod
    def detects(self) -> bool:
        """True if the pipeline runs a detector. Callers that already have boxes can skip it."""

    @abstractmethod
    async def frame(
        self, frame: Frame | PendingFrame, options: InferenceOptions, people: Detections | None = None
    ) -> tuple[Poses, Timing]:
        """All people in a frame, best first, in its pixels.

        people: the boxes of the people, from a tracker; by default the pipeline detects them.
        """

    @abstractmethod
    def _work(self, images: int) -> Work:
        """The work units that this many images bring to the stages' queues."""

    def test(self, options: InferenceOptions, images: int = 1) -> None:
        """Raise OverloadedError or DeadlineExceededError if `admit` would; reserves nothing."""
        self._admission.test([(self._decoder.batcher, images), *self._work(images)], options)

    def admit(
        self, options: InferenceOptions, images: int = 1, *, data: Sequence[bytes] = (), draw: bool = False
    ) -> AbstractContextManager[InferenceOptions]:
        """Admit this many images, or refuse them before any work is spent: see `PipelineAdmission.admit`.

        data: the encoded images, if they have arrived. draw: the people will be drawn on them.
        """
        if data:
            quick = self.stages[0].decodes_frames and not draw
            queues = [self._decoder.queue_for(image) for image in data if not (quick and seems_quick(image))]
        else:
            queues = [self._decoder.batcher] * images
        decoding = [(queue, queues.count(queue)) for queue in dict.fromkeys(queues)]
        drawing = [(self._decoder.drawing, images)] if draw else []
        return self._admission.admit([*decoding, *self._work(images), *drawing], options)

    async def image(self, data: bytes, options: InferenceOptions, *, whole: bool = False) -> Estimate:
        """All people in an encoded image. whole: keep all pixels of the image, to draw on.

        Raises ImageError for bytes that are not an image within the limits, and what `DecodeStage.decode` and `frame`
        raise.
        """
        image, poses, timing = await self.decode_and_estimate(data, options, whole=whole)
        if image.scale != 1:
            poses = poses.scaled(image.scale)
        return Estimate(poses, image.width, image.height, timing, image.whole)

    async def decode_and_estimate(
        self, data: bytes, options: InferenceOptions, *, whole: bool = False, accepted: Collection[str] = IMAGES
    ) -> tuple[DecodedImage, Poses, Timing]:
        """The pixels of an encoded image, as many as the pipeline needs, and the people in their coordinates.

        A small JPEG passes one queue less than with `decode` and `frame`: an idle event loop decodes it, or a worker of
        the first network, if that runs on the CPU.
        """
        recognised, idle = self._decoder.recognise(data, accepted), self._idle
        _, file = recognised
        if file is not None and file.quick and not whole and not idle and self.stages[0].decodes_frames:
            with suppress(UnusualJpegError):
                quick = self._decoder.defer(file, self._needs, options)
                poses, timing = await self.frame(quick.frame, options)
                return quick.decoded(), poses, timing
        image, decoding = await self._decoder.decode(
            data, self._needs, options, idle=idle, whole=whole, recognised=recognised
        )
        poses, timing = await self.frame(image.pixels, options)
        return image, poses, timing + decoding

    async def decode(
        self, data: bytes, options: InferenceOptions, *, whole: bool = False, accepted: Collection[str] = IMAGES
    ) -> tuple[DecodedImage, Timing]:
        """The pixels of an encoded image, as many as the pipeline needs. See `DecodeStage.decode`."""
        return await self._decoder.decode(data, self._needs, options, idle=self._idle, whole=whole, accepted=accepted)

    def open_video(self, codec: VideoCodec, lease: Lease | None) -> StreamDecoder:
        """The decoder of a stream of video, to be closed at its end. lease: counts its memory."""
        return self._decoder.video.open(codec, lease)

    @property
    def _idle(self) -> bool:
        """True if no request waits for any of the queues."""
        return self._decoder.batcher.idle and all(stage.batcher.idle for stage in self.stages)

    async def draw(
        self,
        estimate: Estimate,
        media_type: str,
        options: InferenceOptions,
        *,
        look: DrawOptions | None = None,
        blurred: Poses | None = None,
    ) -> tuple[bytes, Timing]:
        """Draw an estimate on its kept pixels, which are overwritten. Returns the encoded image.

        See `DecodeStage.draw`.
        """
        if estimate.whole is None:
            raise ValueError("the pixels of this image were not kept")
        return await self._decoder.draw(estimate.whole, estimate.poses, media_type, options, look=look, blurred=blurred)


def select_people(poses: Poses, options: InferenceOptions) -> Poses:
    """Return the poses that match the request's score and count limits, best first."""
    if len(poses) == 1 and poses.scores[0] >= options.min_score:
        return poses  # the common case of one person before a webcam, without a copy
    order = np.argsort(-poses.scores, kind="stable")
    return poses.select(order[poses.scores[order] >= options.min_score][: options.max_people])


async def estimate_all(
    pipeline: Pipeline, images: Sequence[bytes], options: InferenceOptions
) -> list[Estimate | BaseException]:
    """The estimate of every image, or its exception, in order. All images run at once, so that they share batches."""
    tasks = (pipeline.image(data, options) for data in images)
    return await asyncio.gather(*tasks, return_exceptions=True)
