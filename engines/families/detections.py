"""Detectors that give boxes, scores and labels, and perhaps keypoints: exports of SSD (Liu et al., 2016), RetinaNet
(Lin et al., 2017), Faster R-CNN (Ren et al., 2015), Mask and Keypoint R-CNN (He et al., 2017) and their like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.families.base import Shapes, dimension
from engines.families.whole_frame import WholeFrameDetector, WholeFrameFamily, best_boxes, corners
from engines.inputs import Arrays, PixelInput
from engines.ops.activations import sigmoid
from engines.poses import Detections, Floats, Poses, Region
from engines.skeletons import Skeleton

_FORMATS = ("xyxy", "yxyx", "cxcywh")


@dataclass(frozen=True, slots=True)
class BoxOutputs:
    """The names and form of a graph's outputs. The defaults are those of torchvision.

    boxes, scores, labels: names of outputs. Without scores, the boxes have them as a fifth column; without labels, all
    boxes are people. form: of a box: "xyxy", "yxyx" or "cxcywh" (centre and size). relative: boxes and keypoints are in
    0..1 of the input instead of pixels. person: the label of people. min_score: boxes below it are dropped, 0..1.
    overlap: boxes with a larger IoU are the same person, for graphs without suppression.
    """

    boxes: str = "boxes"
    scores: str | None = "scores"
    labels: str | None = "labels"
    form: str = "xyxy"
    relative: bool = False
    person: int = 1
    min_score: float = 0.3
    overlap: float = 0.7

    def __post_init__(self) -> None:
        if self.form not in _FORMATS:
            raise ValueError(f"form {self.form!r} is not one of {', '.join(_FORMATS)}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all outputs in use."""
        return tuple(name for name in (self.boxes, self.scores, self.labels) if name)

    def size(self, pixels: PixelInput) -> Floats:
        """The factors (x, y) from the graph's coordinates to input pixels."""
        return np.array([pixels.width, pixels.height] if self.relative else [1, 1], np.float32)

    def people(self, outputs: Arrays, batch: int, pixels: PixelInput) -> list[tuple[Floats, Floats, Any]]:
        """For each image, the (k, 4) boxes of people in input pixels, their (k,) scores and rows in the outputs."""
        boxes = per_image(outputs[self.boxes], batch, 3)
        scores = boxes[..., 4] if self.scores is None else per_image(outputs[self.scores], batch, 2)
        labels = None if self.labels is None else per_image(outputs[self.labels], batch, 2)
        found = []
        for n in range(batch):
            rows = np.flatnonzero(labels[n] == self.person) if labels is not None else np.arange(len(scores[n]))
            box, score = self._corners(boxes[n][rows, :4]) * np.tile(self.size(pixels), 2), scores[n][rows]
            best = best_boxes(box, score, self.min_score, self.overlap)
            found.append((box[best], score[best], rows[best]))
        return found

    def _corners(self, boxes: Floats) -> Floats:
        if self.form == "cxcywh":
            return corners(boxes)
        return boxes[:, [1, 0, 3, 2]] if self.form == "yxyx" else boxes


def per_image(values: Any, batch: int, dimensions: int) -> Floats:
    """`values` with the batch first, which a graph for one image may omit. Raises ValueError for other shapes."""
    array = np.asarray(values, np.float32)
    if array.ndim == dimensions - 1 and batch == 1:
        array = array[None]
    if array.ndim != dimensions or len(array) != batch:
        raise ValueError(f"an output is {np.shape(values)} for {batch} images; {dimensions} dimensions are expected")
    return array


class BoxDetector(WholeFrameDetector):
    """The boxes of people, as a detector for top-down models. Options: see `BoxOutputs`."""

    def __init__(self, pixels: PixelInput, **options: Any) -> None:
        super().__init__(pixels)
        self._boxes = BoxOutputs(**options)
        self.outputs = self._boxes.names

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        found = self._boxes.people(outputs, len(regions), self.pixels)
        return [self._detections(box, score, region) for (box, score, _), region in zip(found, regions, strict=True)]


class KeypointDetector(WholeFrameFamily):
    """People with their keypoints from one graph, as in Keypoint R-CNN.

    keypoints: the name of the output (n, k, K, 2 or 3) x, y (y, x if the boxes are). keypoint_scores: the name of the
    output (n, k, K), or None if they are the third value of each keypoint. logits: whether the scores need the sigmoid,
    as torchvision's do. The other options: see `BoxOutputs`.
    """

    def __init__(
        self,
        pixels: PixelInput,
        skeleton: Skeleton,
        *,
        keypoints: str = "keypoints",
        keypoint_scores: str | None = "keypoints_scores",
        logits: bool = True,
        **options: Any,
    ) -> None:
        self._boxes = BoxOutputs(**options)
        super().__init__(pixels, skeleton)
        self._keypoints = keypoints
        self._scores = keypoint_scores
        self._logits = logits
        self.outputs = (*self._boxes.names, keypoints, *((keypoint_scores,) if keypoint_scores else ()))

    def keypoint_count(self, outputs: Shapes) -> float | None:
        """See `HasKeypointCount`."""
        return dimension(outputs, self._keypoints, -2)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        batch = len(regions)
        points = per_image(outputs[self._keypoints], batch, 4)
        scores = points[..., 2] if self._scores is None else per_image(outputs[self._scores], batch, 3)
        scores = sigmoid(scores).astype(np.float32) if self._logits else scores
        points = points[..., 1::-1] if self._boxes.form == "yxyx" else points[..., :2]
        points = points * self._boxes.size(self.pixels)
        return [
            self._poses(points[n][rows], scores[n][rows], sure, regions[n], boxes)
            for n, (boxes, sure, rows) in enumerate(self._boxes.people(outputs, batch, self.pixels))
        ]
