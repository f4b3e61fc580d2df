"""The pipeline of one-stage and bottom-up models: one network finds all people and their keypoints in a whole frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engines.families.base import OneStageModel
from engines.poses import Detections, Frame, Poses
from service.inference.decode_stage import DecodeStage
from service.inference.pipeline import Pipeline, select_people
from service.inference.pipeline_admission import PipelineAdmission, Work
from service.inference.stage import InferenceOptions, PendingFrame, Stage, Timing


class OneStage(Pipeline):
    """Runs one network on the whole frame. A crowd takes no longer than one person, except for the grouping.

    shapes: one or more families, each with its stage: the same network with inputs of different shapes. A frame goes to
    the input that shows it largest, which is how HigherHRNet's authors keep the short side of every image at 512 pixels
    (HigherHRNet, section 4.1). A few shapes in place of one for each image let frames share batches.
    """

    def __init__(
        self,
        decoder: DecodeStage,
        shapes: Sequence[tuple[OneStageModel, Stage[list[Poses]]]],
        *,
        admission: PipelineAdmission | None = None,
    ) -> None:
        inputs = [model.pixels for model, _ in shapes]
        super().__init__(decoder, (max(i.width for i in inputs), max(i.height for i in inputs)), admission)
        self._shapes = shapes
        self._usual = shapes[0][1]
        """The stage of the last frame. Admission expects the next one there, whose shape it does not know."""

    @property
    def stages(self) -> Sequence[Stage[Any]]:
        return [stage for _, stage in self._shapes]

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
        model, self._usual = self._shape_for(width, height)
        [poses], timing = await self._usual.run(frame, [model.region(width, height)], options)
        return select_people(poses, options), timing

    def _shape_for(self, width: int, height: int) -> tuple[OneStageModel, Stage[list[Poses]]]:
        """The shape whose input shows a frame of this size largest; the smallest of them if there are several."""

        def rank(shape: tuple[OneStageModel, Any]) -> tuple[float, int]:
            pixels = shape[0].pixels
            return -min(pixels.width / width, pixels.height / height), pixels.width * pixels.height

        return min(self._shapes, key=rank)

    def _work(self, images: int) -> Work:
        return [(self._usual.batcher, images)]
