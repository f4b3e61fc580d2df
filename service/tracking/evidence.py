"""How likely a pose is a known person: the sum of log likelihood ratios of several cues. evidence.md explains them.

Only near pairs are compared, so that the cost grows with the number of neighbours, not with all pairs of a crowd.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from engines.ops.oks import keypoint_similarity
from engines.poses import Floats
from service.tracking import colours
from service.tracking.similarity import AREA, DENIED, Indices, Observed, Pairs, areas, form, middles
from service.tracking.state import TrackState

_REACH = 1.5
"""Largest distance of a pair in sizes (a size is the square root of a box's area), times 1 + the root of seconds."""
_HOPELESS = -6.0
"""Pairs whose position and size alone speak this clearly against them are not compared any further."""
_MOTION = 0.5
"""The weight of constant velocity, relative to flow that has found every keypoint of the person."""
_SHORTEST, _LONGEST = 0.02, 3.0
"""Bounds of the seconds since a person was seen. Two calls may be about one instant, and the constants were fitted to
people who were unseen for up to 3 s."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The constants that `python -m tests.benchmarks fit_tracking` fits. Lengths are in sizes, times in seconds.

    prior, lag: the sum starts with prior + lag * log(seconds unseen / 0.1).
    box_spread, box_growth: the spread of the box's middle around its position by constant velocity, and its growth per
        second. box_tail: degrees of freedom of the t distribution. box_upright: how much narrower it is vertically.
    point_spread, point_growth, point_tail: the same for the mean of the common keypoints, which flow carries.
    size_spread, size_growth: of the logarithm of the size (Laplace).
    oks: of the logarithm of OKS. oks_fades: its time constant, as limbs move. form: of the similarity of the postures.
    colour, tint, contrast: of appearance, see `colours.differences`: the constant, and the weights of both logarithms.
    colour_delay: seconds unseen after which appearance has half of its weight. Within a moment, colours change when
        somebody passes in front, which is just when they would be needed.
    """

    prior: float
    lag: float
    box: float
    box_spread: float
    box_growth: float
    box_tail: float
    box_upright: float
    point: float
    point_spread: float
    point_growth: float
    point_tail: float
    size: float
    size_spread: float
    size_growth: float
    oks: float
    oks_fades: float
    form: float
    colour: float
    tint: float
    contrast: float
    colour_delay: float


FITTED = Weights(
    prior=0.386,
    lag=2.981,
    box=1.468,
    box_spread=0.219,
    box_growth=0.686,
    box_tail=0.76,
    box_upright=2.025,
    point=2.027,
    point_spread=0.76,
    point_growth=1.173,
    point_tail=0.946,
    size=2.566,
    size_spread=0.207,
    size_growth=0.07,
    oks=1.616,
    oks_fades=0.698,
    form=4.082,
    colour=-0.6,
    tint=2.8,
    contrast=2.0,
    colour_delay=0.5,
)


@dataclass(frozen=True, slots=True)
class Cues:
    """What is measured of P pairs; all (P,) float32.

    unseen: seconds. right, down: from the expected middle of the box to the pose's. apart: distance of the mean of the
    common keypoints. common: the sum of their weights. growth: logarithm of the ratio of sizes. oks, form: 0..1.
    tint, contrast: see `colours.differences`. compared: how much these are worth, 0..1.
    """

    unseen: Floats
    right: Floats
    down: Floats
    apart: Floats
    common: Floats
    growth: Floats
    oks: Floats
    form: Floats
    tint: Floats
    contrast: Floats
    compared: Floats

    def where(self, chosen: NDArray[np.bool_]) -> Cues:
        return Cues(*(getattr(self, field.name)[chosen] for field in fields(self)))


def place(unseen: Floats, right: Floats, down: Floats, growth: Floats, by: Weights) -> Floats:
    """The evidence (P,) of position, size and time."""
    spread = by.box_spread + by.box_growth * unseen
    far = (right**2 + (down * by.box_upright) ** 2) / spread**2
    sizes = by.size_spread + by.size_growth * unseen
    value: Floats = by.prior + by.lag * np.log(unseen / 0.1)
    value = value + by.box * (-2 * np.log(spread) - (by.box_tail + 2) / 2 * np.log1p(far / by.box_tail) - 1.8)
    return value + by.size * (-np.log(sizes) - np.abs(growth) / sizes)


def posture(cues: Cues, by: Weights) -> Floats:
    """The evidence (P,) of keypoints."""
    spread = by.point_spread + by.point_growth * cues.unseen
    enough = np.minimum(cues.common / 2, 1)
    far = (cues.apart / spread) ** 2
    points = -2 * np.log(spread) - (by.point_tail + 2) / 2 * np.log1p(far / by.point_tail) - 1.8
    value: Floats = enough * (by.point * points + by.form * (cues.form - 0.6))
    return value + by.oks * np.log(np.maximum(cues.oks, 0.02) / 0.1) * np.exp(-cues.unseen / by.oks_fades)


def looks(cues: Cues, by: Weights) -> Floats:
    """The evidence (P,) of appearance."""
    value: Floats = by.colour - by.tint * np.log(cues.tint) - by.contrast * np.log(cues.contrast)
    return cues.compared * value * (cues.unseen / (cues.unseen + by.colour_delay))


def weigh(cues: Cues, by: Weights = FITTED) -> Floats:
    """Sum up: the logarithm of the odds (P,) that a pair is one person."""
    value = place(cues.unseen, cues.right, cues.down, cues.growth, by)
    return value + posture(cues, by) + looks(cues, by)


def between(
    tracks: TrackState,
    held: Floats,
    unseen: Floats,
    seen: Observed,
    appearance: colours.Appearance | None,
    sigmas: Floats,
    by: Weights = FITTED,
) -> tuple[Pairs, Cues]:
    """Return the near pairs of tracks and poses with their evidence, and what it was computed from.

    held: (T,) 0..1, the trust in the flow of each person. unseen: (T,) seconds since each was seen.
    appearance: of the poses, None without pixels.
    """
    unseen = np.clip(unseen, _SHORTEST, _LONGEST)
    areas_of_tracks = areas(tracks.boxes)
    motion = _MOTION / (held + _MOTION)
    expected, at = middles(tracks.boxes) + tracks.drifts * motion[:, None], middles(seen.boxes)
    right, down = np.subtract.outer(expected[:, 0], at[:, 0]), np.subtract.outer(expected[:, 1], at[:, 1])
    product = np.sqrt(np.multiply.outer(areas_of_tracks, seen.areas))
    reach = (_REACH * (1 + np.sqrt(unseen))) ** 2
    row, column = np.nonzero(right * right + down * down < reach[:, None] * product)
    size = np.sqrt(product[row, column])
    right, down, passed = right[row, column] / size, down[row, column] / size, unseen[row].astype(np.float32)
    growth = np.log(areas_of_tracks[row] / seen.areas[column]) * np.float32(0.5)
    chance = place(passed, right, down, growth, by) > _HOPELESS
    row, column, size, passed = row[chance], column[chance], size[chance], passed[chance]
    apart, common, alike, posed = _keypoints(tracks, held, seen, row, column, size, sigmas)
    if appearance is None:
        tint = contrast = np.ones(len(row), np.float32)
        compared = np.zeros(len(row), np.float32)
    else:
        tint, contrast, compared = colours.differences(tracks.colours, appearance, row, column)
    cues = Cues(
        passed, right[chance], down[chance], apart, common, growth[chance], alike, posed, tint, contrast, compared
    )
    return Pairs(row, column, weigh(cues, by)), cues


def _keypoints(
    tracks: TrackState, held: Floats, seen: Observed, row: Indices, column: Indices, size: Floats, sigmas: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """The cues `apart`, `common`, `oks` and `form` of pairs.

    OKS is the best over the queue of each person's last poses at their positions by flow (Xiao, Wu, Wei, 2018, section
    2.3), and of the newest pose at its position by constant velocity, because flow stays with the person in front when
    two people cross.
    """
    queue, new = tracks.poses.take(row, axis=0), seen.points.take(column, axis=0)
    pairs, history, keypoints, columns = queue.shape
    # Subtracts the scores too, although unused: numpy is slow if the innermost axis has length 2.
    offsets = np.empty((pairs, history + 1, keypoints, columns), np.float32)
    np.subtract(queue, new[:, None], out=offsets[:, :history])
    offsets[:, history] = offsets[:, 0]
    for axis in (0, 1):
        offsets[:, history, :, axis] += tracks.drifts[row, axis, None]
    area = np.maximum(areas(tracks.boxes)[row], seen.areas[column]) * np.float32(AREA)
    alike = keypoint_similarity(offsets[..., :2], area[:, None], sigmas)
    weights = queue[..., 2] * new[:, None, :, 2]
    total = np.maximum(weights.sum(axis=-1), DENIED)
    by_flow = (np.einsum("phk,phk->ph", alike[:, :history], weights) / total).max(axis=1)
    by_motion = np.einsum("pk,pk->p", alike[:, history], weights[:, 0]) / total[:, 0]
    common = weights[:, 0].sum(axis=-1)
    mean = np.einsum("pkd,pk->pd", offsets[:, 0, :, :2], weights[:, 0]) / np.maximum(common, 1e-6)[:, None]
    mean += (tracks.drifts * (_MOTION / (held + _MOTION))[:, None])[row]
    apart = np.sqrt((mean * mean).sum(axis=1)) / size
    return apart, common, np.maximum(by_flow, by_motion), form(queue[:, 0], new, sigmas)
