"""HigherHRNet: heatmaps at two resolutions, and tags that tell people apart (Cheng et al., 2020).

The heatmaps are averaged (section 3.3, "heatmap aggregation"), the peaks grouped by their tags: see `tag_grouping`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from engines.families.base import Shapes, dimension
from engines.families.tag_grouping import GroupingOptions, adjust, candidates, match, refine
from engines.families.whole_frame import WholeFrameFamily, missing_at_mean
from engines.inputs import Arrays
from engines.ops.flip import MIRRORED, unmirrored
from engines.poses import Floats, Poses, Region
from engines.skeletons import COCO_17

_MAX_TAG = 1e4
_MAX_HEAT = 10.0  # the network aims at 1; values above these come from a broken graph
# Head and trunk before arms and legs: the keypoints that move least are grouped first.
_COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)


class Maps(NamedTuple):
    """heatmaps: (K, H, W). tags: (K, H, W, T), one or two per keypoint."""

    heatmaps: Floats
    tags: Floats


def aggregate(
    low: Floats, high: Floats, mirrored: tuple[Floats, Floats] | None = None, pairs: Sequence[tuple[int, int]] = ()
) -> Maps:
    """One image's outputs at the higher resolution.

    low: (2K, h, w) heatmaps and tags; high: (K, H, W) heatmaps. mirrored: the same for the mirror image; its heatmaps
    are averaged with these, its tags are added as a second value. pairs: the (left, right) keypoints to swap in it.
    """
    maps = _aggregate(low, high)
    if mirrored is None:
        return maps
    other = _aggregate(*mirrored)
    heatmaps = np.float32(0.5) * (maps.heatmaps + unmirrored(other.heatmaps, pairs))
    tags = unmirrored(other.tags[..., 0], pairs)[..., None]
    return Maps(heatmaps, np.concatenate([maps.tags, tags], axis=-1))


def _aggregate(low: Floats, high: Floats) -> Maps:
    k, height, width = high.shape
    large = resize(low, height, width)
    return Maps(np.float32(0.5) * (large[:k] + high), large[k:, :, :, None])


def resize(maps: Floats, height: int, width: int) -> Floats:
    """(K, h, w) maps resized bilinearly, with the outer edges of pixels aligned."""
    size = (width, height)
    return np.stack([cv2.resize(np.ascontiguousarray(m), size, interpolation=cv2.INTER_LINEAR) for m in maps])


@dataclass(kw_only=True, eq=False)
class AssociativeEmbedding(WholeFrameFamily):
    """Outputs `low` (n, 2K, h, w), K heatmaps and then K tag maps, and `high` (n, K, H, W), heatmaps.

    low, high: their names in the graph. project: find peaks at the input's resolution instead of the outputs', as the
    authors' tests do, at several times the cost. flip: run each frame and its mirror image, at twice the cost, with
    averaged heatmaps and both tags. refine: search for a person's missing keypoints.
    order: the order in which keypoints are grouped. The other options: see `GroupingOptions`.
    Raises ValueError for an order that does not name each keypoint once.
    """

    low: str = "out_low"
    high: str = "out_high"
    project: bool = False
    flip: bool = False
    refine: bool = True
    order: Sequence[int] | None = None
    max_people: int = 30
    min_score: float = 0.1
    max_distance: float = 1.0

    def __post_init__(self) -> None:
        every = range(len(self.skeleton))
        fallback = _COCO_ORDER if self.skeleton == COCO_17 else every
        self._order = tuple(fallback if self.order is None else self.order)
        if sorted(self._order) != list(every):
            raise ValueError(f"order {list(self._order)} must name each of 0..{every[-1]} once")
        self._grouping = GroupingOptions(self.max_people, self.min_score, self.max_distance)
        self.outputs = (self.low, self.high)

    def keypoint_count(self, outputs: Shapes) -> float | None:
        """See `HasKeypointCount`."""
        return dimension(outputs, self.high, 0)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """The score of a person is the mean score of all keypoints; missing ones count as 0."""
        sides = [[np.asarray(outputs[name], np.float32) for name in self.outputs]]
        if self.flip:
            sides.append([np.asarray(outputs[name + MIRRORED], np.float32) for name in self.outputs])
        return [self._people([(low[n], high[n]) for low, high in sides], region) for n, region in enumerate(regions)]

    def _people(self, sides: Sequence[tuple[Floats, Floats]], region: Region) -> Poses:
        if not all(self._sane(low, high) for low, high in sides):
            return Poses.empty(self.skeleton)
        maps = aggregate(*sides[0], sides[1] if self.flip else None, self.skeleton.pairs)
        if self.project:
            size = self.pixels.height, self.pixels.width
            tags = [resize(tags, *size) for tags in np.moveaxis(maps.tags, -1, 0)]
            maps = Maps(resize(maps.heatmaps, *size), np.stack(tags, axis=-1))
        people = match(candidates(*maps, self._grouping), self._order, self._grouping)
        scores = people[..., 2].mean(axis=1)
        people = adjust(people, maps.heatmaps)
        if self.refine:
            people = refine(people, *maps)
        height, width = maps.heatmaps.shape[-2:]
        points = people[..., :2] * np.array([self.pixels.width / width, self.pixels.height / height], np.float32)
        found = people[..., 2].clip(min=0)
        return self._poses(missing_at_mean(points, found), found, scores, region)

    def _sane(self, low: Floats, high: Floats) -> bool:
        k = len(self.skeleton)
        heat, tags = max(np.abs(low[:k]).max(), np.abs(high).max()), np.abs(low[k:]).max()
        return bool(heat < _MAX_HEAT and tags < _MAX_TAG)  # false for NaN
