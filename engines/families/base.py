"""The roles of families: the interfaces between a pipeline and the code for a kind of model.

A family is pure: arrays and regions in, detections or poses out. It never runs its network itself, so that a Batcher
can gather the regions of many frames and many clients into one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from engines.inputs import Arrays, PixelInput
from engines.ops.keypoint_decoding import KeypointDecoder
from engines.poses import Detections, Floats, Poses, Region
from engines.skeletons import Skeleton

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of a graph's outputs by name, per item, as in `TensorSpec`: -1 for a dimension that varies."""


class Family(Protocol):
    """The properties that all roles have."""

    @property
    def pixels(self) -> PixelInput:
        """The input of its network."""

    @property
    def outputs(self) -> tuple[str, ...] | None:
        """The graph's outputs that `decode` takes, or None for all. Others are cut off before compiling."""


class Detector(Family, Protocol):
    """Finds people: regions of a frame in, detections out."""

    def regions(self, width: int, height: int) -> list[Region]:
        """The regions to crop from a frame of `width` x `height`: the whole frame, or the whole frame and tiles."""

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        """Detections in frame pixels, one entry per region of the batch. Garbage in the outputs is dropped."""

    def merge(self, parts: Sequence[Detections], regions: Sequence[Region]) -> Detections:
        """Merge the detections of one frame, one part per region, without duplicates, best first."""


class Estimator(Family, Protocol):
    """Finds the keypoints of one person per region."""

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of its poses."""

    def regions(self, people: Detections) -> list[Region]:
        """The region to crop for each detected person."""

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        """One pose per region of the batch, in frame pixels."""

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """Weight the poses of one frame by their detections, row by row, and drop false detections and duplicates."""


@runtime_checkable
class OneStageModel(Family, Protocol):
    """Finds all people and their keypoints in one pass over the whole frame: bottom-up and one-stage models."""

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints of its poses."""

    def region(self, width: int, height: int) -> Region:
        """The region that contains the whole frame of `width` x `height`."""

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """Poses in frame pixels, best first, one entry per region of the batch. Garbage in the outputs is dropped."""


class Embedder(Family, Protocol):
    """Says what people look like: one vector per region, similar for pictures of one person.

    Two vectors at the angle a are of one person with the log odds `slope (cos(a) - middle)`.
    """

    @property
    def middle(self) -> float:
        """The cosine that speaks neither for one person nor for two."""

    @property
    def slope(self) -> float:
        """Log odds per unit of the cosine."""

    def size(self, outputs: Shapes) -> int:
        """The number of values that a graph with these outputs gives. Raises ValueError if they are no vector."""

    def regions(self, boxes: Floats) -> list[Region]:
        """The region to crop for each person's box (N, 4)."""

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Floats:
        """One row of length 1 per region of the batch; zeros for garbage in the outputs."""


@runtime_checkable
class HasKeypointDecoder(Protocol):
    """An estimator that needs only a position and a score for each keypoint from its network's outputs.

    A device can compute these; `decode` takes them instead of the outputs.
    """

    @property
    def keypoint_decoder(self) -> KeypointDecoder:
        """Describes how to compute positions and scores from the outputs."""


@runtime_checkable
class HasKeypointCount(Protocol):
    """A family whose graphs show in the shapes of their outputs how many keypoints they give."""

    def keypoint_count(self, outputs: Shapes) -> float | None:
        """The number of keypoints of a graph with these outputs; None if the dimension varies or is missing.

        A number that is not whole fits no skeleton.
        """


@runtime_checkable
class HasFlipTest(Protocol):
    """A family that supports the flip test of many papers, which averages over each crop and its mirror image."""

    @property
    def flip(self) -> bool:
        """True if `decode` also needs each output for the mirror images, with MIRRORED appended to its name."""


def dimension(outputs: Shapes, name: str, axis: int) -> int | None:
    """The length of an axis of an output per item; None if it varies or there is no such axis."""
    shape = outputs.get(name, ())
    return shape[axis] if -len(shape) <= axis < len(shape) and shape[axis] > 0 else None
