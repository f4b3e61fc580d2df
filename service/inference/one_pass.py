"""The pipeline of bottom-up and one-stage models: one look at the whole frame finds everybody and their keypoints."""

from __future__ import annotations

from collections.abc import Sequence

from engines.families import Finder
from engines.poses import Detections, Frame, Poses
from service.inference.admission import Entrance, Work
from service.inference.decode_stage import Decoder
from service.inference.stage import Ask, NetworkStage, Timing
from service.inference.top_down import Pipeline, asked_for


class WholeFrame(Pipeline):
    """One network for a frame, whoever is in it: a crowd takes no longer than one person, but for the grouping."""

    def __init__(
        self,
        decoder: Decoder,
        finder: Finder,
        find: NetworkStage[Poses],
        *,
        entrance: Entrance | None = None,
    ) -> None:
        super().__init__(decoder, (finder.pixels.width, finder.pixels.height), entrance)
        self._finder = finder
        self._find = find

    @property
    def stages(self) -> Sequence[NetworkStage[Detections] | NetworkStage[Poses]]:
        """See `Pipeline.stages`."""
        return [self._find]

    @property
    def detects(self) -> bool:
        """See `Pipeline.detects`: there is nothing to spare it."""
        return False

    async def frame(self, frame: Frame, ask: Ask, people: Detections | None = None) -> tuple[Poses, Timing]:  # noqa: ARG002
        """See `Pipeline.frame`. It looks at all of the frame, whatever a tracker knows."""
        height, width = frame.shape[:2]
        [poses], timing = await self._find.see(frame, [self._finder.region(width, height)], ask)
        return asked_for(poses, ask), timing

    def _work(self, images: int) -> Work:
        return [(self._find.batcher, images)]
