"""MoveNet (Google, 2021) cut at its heads, which are those of CenterNet (Zhou et al., 2019): its own ending takes one
image at a time.

The heads are on a grid of cells of 4 x 4 input pixels: for each cell how likely it is the centre of a person, where
that person's keypoints are about, how likely it has each keypoint, and where in the cell that is. The decoding is that
of the ending, with the constants that it holds; positions are y, x in cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.families.movenet import MoveNetCrops, check_skeleton
from engines.families.poses_in_frame import poses_from_input
from engines.families.whole_frame import WholeFrameFamily
from engines.inputs import Arrays, PixelInput
from engines.ops.activations import sigmoid
from engines.ops.peaks import local_maxima
from engines.poses import Floats, Poses, Region
from engines.skeletons import COCO_17

_HEADS = ("centres", "keypoints", "guesses", "offsets")
_K = len(COCO_17)
_SOFTENING = np.float32(1.8)  # cells, added to a distance before dividing by it
_SPREAD = 0.3  # the variance of the weight around a guess, as a share of the grid's shorter side
_SURE = 0.127  # a person's score is that of the centre times the mean of the keypoint scores above this
_NEIGHBOURS = 5  # cells along a side, of which a centre has the highest score


@dataclass(kw_only=True, eq=False)
class SinglePoseHeads(MoveNetCrops):
    """MoveNet Lightning and Thunder, a top-down estimator: finds the person in the middle of a crop.

    Outputs: logits `centres` (n, H, W, 1) and `keypoints` (n, H, W, 17), `guesses` (n, H, W, 34) relative to the centre
    and `offsets` (n, H, W, 34) in the cell.
    """

    outputs = _HEADS

    @np.errstate(invalid="ignore", over="ignore")  # garbage, which scores nothing
    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        centres, keypoints, guesses, offsets = (np.asarray(outputs[name], np.float32) for name in self.outputs)
        n, height, width, _ = centres.shape
        y, x = np.mgrid[:height, :width].astype(np.float32)
        from_middle = np.hypot(y - height / 2, x - width / 2) + _SOFTENING
        best = (sigmoid(centres[..., 0]) / from_middle).reshape(n, -1).argmax(axis=1)
        cells = np.stack([best // width, best % width], axis=-1).astype(np.float32)
        guess = guesses.reshape(n, height * width, _K, 2)[np.arange(n), best] + cells[:, None]
        scores = sigmoid(keypoints).transpose(0, 3, 1, 2)
        away = np.sqrt(
            np.square(np.arange(height, dtype=np.float32) - guess[..., :1])[..., None]
            + np.square(np.arange(width, dtype=np.float32) - guess[..., 1:])[..., None, :]
        )
        best = (scores / (away + _SOFTENING)).reshape(n, _K, -1).argmax(axis=2)
        sure = np.take_along_axis(scores.reshape(n, _K, -1), best[..., None], axis=2)[..., 0]
        found = np.stack([best // width, best % width], axis=-1)
        points = _in_pixels(found, offsets, np.arange(n)[:, None], self.pixels)
        return poses_from_input(points, sure, regions, self.pixels, self.skeleton)


@dataclass(kw_only=True, eq=False)
class MultiPoseHeads(WholeFrameFamily):
    """MoveNet MultiPose, a one-stage model.

    Outputs: those of `SinglePoseHeads`, and `box_sizes` and `box_offsets` (n, H, W, 2). min_score: people under it are
    dropped, 0..1. most: the largest number of people. Raises ValueError for another skeleton than COCO's.
    """

    min_score: float = 0.1
    most: int = 30

    outputs = (*_HEADS, "box_sizes", "box_offsets")

    def __post_init__(self) -> None:
        check_skeleton(self.skeleton)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        heads = [np.asarray(outputs[name], np.float32) for name in self.outputs]
        return [self._people([head[n] for head in heads], region) for n, region in enumerate(regions)]

    @np.errstate(invalid="ignore", over="ignore")  # garbage, which is dropped later
    def _people(self, heads: Sequence[Floats], region: Region) -> Poses:
        centres, keypoints, guesses, offsets, box_sizes, box_offsets = heads
        height, width, _ = centres.shape
        centre_scores = sigmoid(centres[..., 0])
        cells = local_maxima(centre_scores, self.min_score, _NEIGHBOURS)[: self.most]
        at = cells[:, 0], cells[:, 1]
        middle, half = cells + box_offsets[at], box_sizes[at].clip(min=0) / 2
        low, high = (middle - half).clip(0, (height, width)), (middle + half).clip(0, (height, width))
        guess = guesses[at].reshape(-1, _K, 2) + cells[:, None]
        rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
        spread = np.float32(-1 / (_SPREAD * min(height, width)))
        # The weight around a guess is the product of one along y and one along x; outside of the box it is 0.
        down = np.exp(np.square(rows - guess[..., :1]) * spread)
        across = np.exp(np.square(columns - guess[..., 1:]) * spread)
        down *= ((rows >= low[:, :1]) & (rows < high[:, :1]))[:, None]
        across *= ((columns >= low[:, 1:]) & (columns < high[:, 1:]))[:, None]
        likely = sigmoid(keypoints).transpose(2, 0, 1)
        found = np.zeros((len(cells), _K, 2), np.intp)
        for person, (top, left), (bottom, right) in zip(range(len(cells)), _whole(low), _whole(high), strict=True):
            if top < bottom and left < right:
                weights = down[person, :, top:bottom, None] * across[person, :, None, left:right]
                best = (likely[:, top:bottom, left:right] * weights).reshape(_K, -1).argmax(axis=1)
                found[person] = np.stack([top + best // (right - left), left + best % (right - left)], axis=-1)
        y, x, k = found[..., 0], found[..., 1], np.arange(_K)
        # A keypoint between two people has the score that it has for the likelier one.
        sure = likely[k, y, x] * (down[:, k, y] * across[:, k, x]).max(axis=0, initial=0)
        counted = sure > _SURE
        scores = centre_scores[at] * (sure * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
        size = np.array([self.pixels.width / width, self.pixels.height / height], np.float32)
        boxes = np.concatenate([low[:, ::-1] * size, high[:, ::-1] * size], axis=1).astype(np.float32)
        return self._poses(_in_pixels(found, offsets[None], 0, self.pixels), sure, scores, region, boxes)


def _whole(corners: NDArray[Any]) -> list[list[int]]:
    """The first cells of rows and columns that are not before the (n, 2) corners."""
    cells: list[list[int]] = np.ceil(np.nan_to_num(corners)).astype(int).tolist()
    return cells


def _in_pixels(cells: NDArray[np.intp], offsets: Floats, image: NDArray[np.intp] | int, pixels: PixelInput) -> Floats:
    """The x, y in input pixels of each keypoint, (n, K, 2), from its cells (n, K, 2).

    offsets: (images, H, W, 2 K) in the cell. image: the index in it of each of the n.
    """
    _, height, width, _ = offsets.shape
    y, x = cells[..., 0], cells[..., 1]
    within = offsets.reshape(len(offsets), height, width, _K, 2)[image, y, x, np.arange(_K)]
    size = np.array([pixels.width / width, pixels.height / height], np.float32)
    points: Floats = ((cells + within)[..., ::-1] * size).astype(np.float32)
    return points
