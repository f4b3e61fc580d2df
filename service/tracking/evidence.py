"""How likely a pose is a known person: the sum of log likelihood ratios of several cues. evidence.md explains them.

Only near pairs are compared, so that the cost grows with the number of neighbours, not with all pairs of a crowd.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from engines.ops.oks import fall_off
from engines.poses import Doubles, Floats
from service.tracking import colours
from service.tracking.similarity import AREA, DENIED, Indices, Observed, Pairs, areas, form, middles, planes
from service.tracking.state import TrackState

_REACH = 1.5
"""Largest distance of a pair in sizes (a size is the square root of a box's area), times 1 + the root of seconds."""
_HOPELESS = -6.0
"""Pairs whose position and size alone speak this clearly against them are not compared any further."""
_PLANE = np.float32(1.8)
"""The logarithm of 2 pi, of the density of a distribution over the plane."""
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
    doubt: per unit of a pose's score: of two poses of one person, the one with the higher score is matched. Not fitted.
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
    doubt: float
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
    doubt=1.5,
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
    box = -2 * np.log(spread) - (by.box_tail + 2) / 2 * np.log1p(far / by.box_tail) - _PLANE
    sizes = by.size_spread + by.size_growth * unseen
    size = -np.log(sizes) - np.abs(growth) / sizes
    value: Floats = by.prior + by.lag * np.log(unseen / 0.1) + by.box * box + by.size * size
    return value


def posture(cues: Cues, by: Weights) -> Floats:
    """The evidence (P,) of keypoints."""
    spread = by.point_spread + by.point_growth * cues.unseen
    far = (cues.apart / spread) ** 2
    points = -2 * np.log(spread) - (by.point_tail + 2) / 2 * np.log1p(far / by.point_tail) - _PLANE
    moved = by.oks * np.log(np.maximum(cues.oks, 0.02) / 0.1) * np.exp(-cues.unseen / by.oks_fades)
    value: Floats = np.minimum(cues.common / 2, 1) * (by.point * points + by.form * (cues.form - 0.6)) + moved
    return value


def appearance(tint: Floats, contrast: Floats, worth: Floats, by: Weights) -> Floats:
    """The evidence (P,) of appearance, if nothing else is known. See `colours.differences`."""
    value = by.colour - by.tint * np.log(tint) - by.contrast * np.log(contrast)
    return (worth * value).astype(np.float32)


def keypoints_and_looks(cues: Cues, by: Weights) -> Floats:
    """The evidence (P,) of all but the place."""
    value = posture(cues, by)
    if not cues.compared.any():
        return value
    delay = cues.unseen / (cues.unseen + by.colour_delay)
    return (value + delay * appearance(cues.tint, cues.contrast, cues.compared, by)).astype(np.float32)


def weigh(cues: Cues, by: Weights = FITTED) -> Floats:
    """Sum up: the logarithm of the odds (P,) that a pair is one person."""
    value: Floats = place(cues.unseen, cues.right, cues.down, cues.growth, by) + keypoints_and_looks(cues, by)
    return value


def between(
    tracks: TrackState,
    held: Floats,
    unseen: Doubles,
    seen: Observed,
    shown: colours.Appearance | None,
    sigmas: Floats,
    by: Weights = FITTED,
) -> tuple[Pairs, Cues]:
    """Return the near pairs of tracks and poses with their evidence, and what it was computed from.

    held: (T,) 0..1, the trust in the flow of each person. unseen: (T,) seconds since each was seen.
    shown: the colours of the poses, None without pixels.
    """
    away = np.clip(unseen, _SHORTEST, _LONGEST).astype(np.float32)
    areas_of_tracks = areas(tracks.boxes)
    motion = np.float32(_MOTION) / (held + np.float32(_MOTION))
    expected: Floats = middles(tracks.boxes) + tracks.drifts * motion[:, None]
    at = middles(seen.boxes)
    across = np.subtract.outer(expected[:, 0], at[:, 0])
    along = np.subtract.outer(expected[:, 1], at[:, 1])
    product: Floats = np.sqrt(np.multiply.outer(areas_of_tracks, seen.areas))
    reach = (_REACH * (1 + np.sqrt(away))) ** 2
    row, column = np.nonzero(across * across + along * along < reach[:, None] * product)
    size = np.sqrt(product[row, column])
    right = (across[row, column] / size).astype(np.float32)
    down = (along[row, column] / size).astype(np.float32)
    passed = away[row]
    growth: Floats = np.log(areas_of_tracks[row] / seen.areas[column]) * np.float32(0.5)
    placed = place(passed, right, down, growth, by)
    chance = placed > _HOPELESS
    row, column, size, passed = row[chance], column[chance], size[chance], passed[chance]
    apart, common, alike, posed = _keypoints(tracks, held, seen, row, column, size, sigmas)
    if shown is None:
        tint = contrast = np.ones(len(row), np.float32)
        compared = np.zeros(len(row), np.float32)
    else:
        tint, contrast, compared = colours.differences(tracks.colours, shown, row, column)
    cues = Cues(
        passed, right[chance], down[chance], apart, common, growth[chance], alike, posed, tint, contrast, compared
    )
    doubt = np.float32(by.doubt) * (seen.scores[column] - np.float32(0.5))
    return Pairs(row, column, placed[chance] + keypoints_and_looks(cues, by) + doubt), cues


def _keypoints(
    tracks: TrackState, held: Floats, seen: Observed, row: Indices, column: Indices, size: Floats, sigmas: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """The cues `apart`, `common`, `oks` and `form` of pairs.

    OKS is the best over the queue of each person's last poses at their positions by flow (Xiao, Wu, Wei, 2018, section
    2.3), and of the newest pose at its position by constant velocity, because flow stays with the person in front when
    two people cross.
    """
    queue, new = planes(tracks.poses).take(row, axis=1), planes(seen.points).take(column, axis=1)
    _, pairs, history, keypoints = queue.shape
    moving = bool(tracks.drifts.any())  # otherwise constant velocity and flow agree
    offsets = np.empty((2, pairs, history + moving, keypoints), np.float32)
    np.subtract(queue[:2], new[:2, :, None], out=offsets[:, :, :history])
    if moving:
        np.add(offsets[:, :, 0], tracks.drifts.T[:, row, None], out=offsets[:, :, history])
    weights = queue[2] * new[2, :, None]
    common = weights[:, 0].sum(axis=-1)
    mean = np.einsum("dpk,pk->dp", offsets[:, :, 0], weights[:, 0]) / np.maximum(common, 1e-6)
    mean += (tracks.drifts * (_MOTION / (held + _MOTION))[:, None])[row].T
    apart = np.sqrt(mean[0] * mean[0] + mean[1] * mean[1]) / size
    offsets *= offsets
    area = np.maximum(areas(tracks.boxes)[row], seen.areas[column]) * np.float32(AREA)
    alike = fall_off(offsets[0] + offsets[1], area[:, None], sigmas)
    total = np.maximum(weights.sum(axis=-1), DENIED)
    best = (np.einsum("phk,phk->ph", alike[:, :history], weights) / total).max(axis=1)
    if moving:
        best = np.maximum(best, np.einsum("pk,pk->p", alike[:, history], weights[:, 0]) / total[:, 0])
    return apart, common, best, form(queue[:, :, 0], new, sigmas)
