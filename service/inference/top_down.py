"""The top-down pipeline: detect the people, then estimate the pose of each from a crop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from engines.families.base import Detector, Estimator
from engines.families.poses_in_frame import distinct
from engines.families.regions import PADDING
from engines.poses import Detections, Frame, Poses
from service.inference.decode_stage import DecodeStage
from service.inference.pipeline import Pipeline, select_people
from service.inference.pipeline_admission import PipelineAdmission, Work
from service.inference.stage import InferenceOptions, PendingFrame, Stage, Timing

_DETAIL = 3
"""A frame should be this many times as large as the detector's input along one side, so that crops have detail."""
_SMOOTHING = 0.05
"""Weight of the newest frame in the running mean of people per frame."""
_SAME_PERSON = 0.6
"""OKS from which on two poses are one person's."""


class TopDown(Pipeline):
    """Detects the people, then estimates each of them. Without a detector the whole frame is one person.

    Crops of all frames of all clients share the estimator's Batcher.
    """

    def __init__(
        self,
        decoder: DecodeStage,
        estimator: Estimator,
        estimate: Stage[Poses],
        detector: Detector | None = None,
        detect: Stage[list[Detections]] | None = None,
        *,
        admission: PipelineAdmission | None = None,
    ) -> None:
        if detector is not None:
            # Crops need more pixels than the detector does: people are small parts of the frame.
            needs = (_DETAIL * detector.pixels.width, _DETAIL * detector.pixels.height)
        else:  # the frame fills the input except for the padding
            needs = (int(estimator.pixels.width / PADDING), int(estimator.pixels.height / PADDING))
        super().__init__(decoder, needs, admission)
        self._estimator = estimator
        self._estimate = estimate
        self._detector = detector
        self._detect = detect
        self._people = 1.0
        # For a frame with the usual aspect ratio.
        self._regions_per_frame = len(detector.regions(640, 480)) if detector is not None else 0

    @property
    def stages(self) -> Sequence[Stage[Any]]:
        return [self._estimate] if self._detect is None else [self._detect, self._estimate]

    @property
    def detects(self) -> bool:
        """See `Pipeline.detects`; false if the whole frame is one person."""
        return self._detect is not None

    def _work(self, images: int) -> Work:
        people = (self._estimate.batcher, images * math.ceil(self._people))
        if self._detect is None:
            return [people]
        return [(self._detect.batcher, images * self._regions_per_frame), people]

    async def frame(
        self, frame: Frame | PendingFrame, options: InferenceOptions, people: Detections | None = None
    ) -> tuple[Poses, Timing]:
        proposed = people is not None
        people, timing = await self._detect_people(frame, options) if people is None else (people, Timing())
        if not len(people):
            return Poses.empty(self._estimator.skeleton), timing
        parts, estimating = await self._estimate.run(frame, self._estimator.regions(people), options)
        poses = self._estimator.merge(parts, people)
        if proposed:  # predicted boxes may have drifted to the person in front
            poses = distinct(poses, _SAME_PERSON, either_size=True)
        return select_people(poses, options), timing + estimating

    async def _detect_people(self, frame: Frame | PendingFrame, options: InferenceOptions) -> tuple[Detections, Timing]:
        height, width = frame.shape[:2]
        if self._detector is None or self._detect is None:
            return Detections(np.array([[0, 0, width, height]], np.float32), np.ones(1, np.float32)), Timing()
        regions = self._detector.regions(width, height)
        parts, timing = await self._detect.run(frame, regions, options)
        people = self._detector.merge(parts, regions).select(slice(options.max_people))
        self._people += _SMOOTHING * (len(people) - self._people)
        return people, replace(timing, detect=sum(timing.parts().values()))
