"""The pipeline of one-stage and bottom-up models: one network finds all people and their keypoints in a whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.families.base import OneStageModel
from engines.poses import Detections, Frame, Poses
from service.inference.admission import PipelineAdmission, Work
from service.inference.decode_stage import DecodeStage
from service.inference.pipeline import Pipeline, select_people
from service.inference.stage import InferenceOptions, PendingFrame, Stage, Timing


class OneStage(Pipeline):
    """Runs one network on the whole frame. A crowd takes no longer than one person, except for the grouping."""

    def __init__(
        self,
        decoder: DecodeStage,
        model: OneStageModel,
        stage: Stage[list[Poses]],
        *,
        admission: PipelineAdmission | None = None,
    ) -> None:
        super().__init__(decoder, (model.pixels.width, model.pixels.height), admission)
        self._model = model
        self._stage = stage

    @property
    def stages(self) -> Sequence[Stage[Any]]:
        return [self._stage]

    @property
    def detects(self) -> bool:
        """See `Pipeline.detects`: there is no detector."""
        return False

    async def frame(
        self,
        frame: Frame | PendingFrame,
        options: InferenceOptions,
        people: Detections | None = None,  # noqa: ARG002 - the network always takes the whole frame
    ) -> tuple[Poses, Timing]:
        """See `Pipeline.frame`. Ignores `people`, as the network always takes the whole frame."""
        height, width = frame.shape[:2]
        [poses], timing = await self._stage.run(frame, [self._model.region(width, height)], options)
        return select_people(poses, options), timing

    def _work(self, images: int) -> Work:
        return [(self._stage.batcher, images)]
