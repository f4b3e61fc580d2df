"""The pipeline of bottom-up and one-stage models: one look at the whole frame finds everybody and their keypoints."""

from __future__ import annotations

from collections.abc import Sequence

from engines.families import OneStageModel
from engines.poses import Detections, Frame, Poses
from service.inference.admission import PipelineAdmission, Work
from service.inference.decode_stage import Decoder
from service.inference.stage import InferenceOptions, Stage, Timing
from service.inference.top_down import Pipeline, asked_for


class WholeFrame(Pipeline):
    """One network for a frame, whoever is in it: a crowd takes no longer than one person, but for the grouping."""

    def __init__(
        self,
        decoder: Decoder,
        finder: OneStageModel,
        find: Stage[Poses],
        *,
        admission: PipelineAdmission | None = None,
    ) -> None:
        super().__init__(decoder, (finder.pixels.width, finder.pixels.height), admission)
        self._finder = finder
        self._find = find

    @property
    def stages(self) -> Sequence[Stage[Detections] | Stage[Poses]]:
        """See `Pipeline.stages`."""
        return [self._find]

    @property
    def detects(self) -> bool:
        """See `Pipeline.detects`: there is nothing to spare it."""
        return False

    async def frame(
        self,
        frame: Frame,
        options: InferenceOptions,
        people: Detections | None = None,  # noqa: ARG002 - it looks at the whole frame
    ) -> tuple[Poses, Timing]:
        """See `Pipeline.frame`. It looks at all of the frame, whatever a tracker knows."""
        height, width = frame.shape[:2]
        [poses], timing = await self._find.see(frame, [self._finder.region(width, height)], options)
        return asked_for(poses, options), timing

    def _work(self, images: int) -> Work:
        return [(self._find.batcher, images)]
