"""The roles a family plays: what a pipeline asks of the code that knows a kind of model.

A family is pure: arrays and regions in, detections or poses out. It never runs its network itself, so that a Batcher
can gather the regions of many frames and many clients into one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from engines.inputs import Arrays, PixelInput
from engines.ops.reading import Reading
from engines.poses import Detections, Poses, Region
from engines.skeletons import Skeleton


class Family(Protocol):
    """What every role has."""

    @property
    def pixels(self) -> PixelInput:
        """What its network takes."""

    @property
    def outputs(self) -> tuple[str, ...] | None:
        """The graph's outputs that `decode` reads (others are cut off before compiling), or None for all."""


class Detector(Family, Protocol):
    """Finds people: regions of a frame in, detections out."""

    def regions(self, width: int, height: int) -> list[Region]:
        """The regions of a frame of `width` x `height` that it wants to see: the whole, or the whole and tiles."""

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        """Detections in frame pixels, one entry per region of the batch. Garbage in the outputs gives nobody."""

    def merge(self, parts: Sequence[Detections], regions: Sequence[Region]) -> Detections:
        """Join what the `regions` of one frame gave, a part each, into one set without duplicates, best first."""


class Estimator(Family, Protocol):
    """Finds the keypoints of one person per region."""

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints it gives."""

    def regions(self, people: Detections) -> list[Region]:
        """The region to look at for each detected person."""

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        """One pose per region of the batch, in frame pixels."""

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """Weigh the poses of one frame with the detections they come from, row by row; drop nobodies and duplicates."""


@runtime_checkable
class OneStageModel(Family, Protocol):
    """Finds everybody and their keypoints in one look at the whole frame: the bottom-up and one-stage models."""

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints it gives."""

    def region(self, width: int, height: int) -> Region:
        """The region that shows a whole frame of `width` x `height`."""

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """Everybody in frame pixels, best first, one entry per region of the batch. Garbage in the outputs gives
        nobody.
        """


@runtime_checkable
class Reads(Protocol):
    """An estimator that needs no more of its network's outputs than a place and a score for each keypoint.

    Its `decode` takes these too, see `engines.ops.reading.already_read`.
    """

    @property
    def reading(self) -> Reading:
        """How they are read off the outputs."""


@runtime_checkable
class Flips(Protocol):
    """A family that can read what its network says of the mirror image, too: the flip test of many papers."""

    @property
    def flip(self) -> bool:
        """Whether `decode` needs each output twice, the second of the mirror images, its name ending in MIRRORED."""
