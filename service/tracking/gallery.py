"""People who are gone for longer than tracks are kept, or who have left the picture, so that they are known again.

A return needs clear evidence, because an id that is given to a stranger is worse than a new id. See evidence.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Floats
from service.tracking import colours, embeddings
from service.tracking.embeddings import Embeddings, EmbeddingSpace
from service.tracking.similarity import areas, middles
from service.tracking.state import AbsentState, TrackState

STRANGER, UNDECIDED = -1, -2
_RETURN, _SOONER, _NEW = math.log(2.5), math.log(20), math.log(0.05)
"""Least odds of a return; those that are enough before `_PATIENCE`; and those below which somebody is new at first.
The last rise to the first."""
_APART = 2.0
"""By how much somebody must look more like one person than like any other for further looks to be worth it."""
_PATIENCE = 0.8
"""Seconds for which somebody who may have returned is looked at before the decision."""
_OBSCURED = 0.8
"""Seconds added to `_PATIENCE` for a newcomer with too few keypoints to compare."""
_ENOUGH, _MANY = 5, 7
"""Pairs of keypoints with colours that a decision before `_PATIENCE` needs, and with which colours count fully."""
_SETTLES = 0.4
"""Time constant in seconds with which the first looks at somebody become a mean of many."""
_SETTLED = 0.3
"""Seconds for which somebody must have been seen to be remembered; others may be mistakes of the detector."""
_GROWTH, _MOST_GROWTH = 0.35, 2.0
"""Spread of the logarithm of a person's size between leaving and returning, and the most that it counts against."""
_BORDER = 0.2
"""Share of a box's longer side by which it is away from the borders if all of the person is seen."""
_START, _WANDER = 1.0, 0.5
"""The spread of the place of a return in sizes of the person, and its growth per second."""
_PLACED, _FAR, _MOST_PLACE = 0.5, 10.0, 1.0
"""The share of returns that are near the expected place after a long time, the time constant in seconds with which the
others become possible, and the most that the place counts for a return."""


@dataclass(frozen=True, slots=True)
class LooksWeights:
    """The weights of appearance, that `python -m tests.benchmarks fit_gallery` fits.

    colour, tint, contrast: as in `evidence.Weights`. early: is added to `colour` at the first look, and fades with the
    time constant `_SETTLES`: a few looks differ more, and say less.
    """

    colour: float
    early: float
    tint: float
    contrast: float


FITTED = LooksWeights(colour=-1.96, early=2.03, tint=2.80, contrast=4.33)


@dataclass(frozen=True, slots=True, eq=False)
class Newcomers:
    """N people without an id. colours: (N, K, 4) as in TrackState. boxes: (N, 4). ages: (N,) seconds since they were
    first seen. embeddings: (N, D).
    """

    colours: Floats
    boxes: Floats
    ages: Doubles
    embeddings: Embeddings


def remember(absent: AbsentState, left: AbsentState, most: int) -> AbsentState:
    """Add the people who have left. Above `most` people, drop those who were unseen for the longest time."""
    absent = AbsentState.join([absent, left])
    return absent.select(np.sort(np.argsort(-absent.seen, kind="stable")[:most]))


def as_absent(tracks: TrackState) -> AbsentState:
    """What is remembered of people: of those who were seen for long enough, with known colours."""
    known = (tracks.colours[..., 3] > 0).sum(axis=1) >= colours.LEAST
    tracks = tracks.select(known & (tracks.seen - tracks.born >= _SETTLED))
    bytes_ = np.clip(np.round(tracks.colours * 255), 0, 255).astype(np.uint8)
    return AbsentState(tracks.ids, tracks.born, tracks.seen, tracks.boxes, bytes_, tracks.embeddings)


def recognise(
    absent: AbsentState,
    others: TrackState,
    newcomers: Newcomers,
    now: float,
    size: tuple[int, int],
    sides: NDArray[np.intp],
    by: LooksWeights = FITTED,
    space: EmbeddingSpace | None = None,
) -> NDArray[np.intp]:
    """Return the row (N,) of the absent person who has returned as each newcomer, STRANGER, or UNDECIDED for those who
    should be looked at for longer.

    others: the people in sight. size: of the frame in pixels. sides: see `colours.pooled`. space: of the embeddings,
    None if there are none. With one, newcomers without an embedding are looked at for longer.
    """
    count = len(newcomers.ages)
    found = np.full(count, STRANGER, np.intp)
    if not len(absent) or not count:
        return found
    known = np.concatenate([absent.colours.astype(np.float32) / 255, others.colours])
    pooled = colours.pooled(known, sides), colours.pooled(newcomers.colours, sides)
    alike, compared = likeness(*pooled, newcomers.ages, by)
    if space is not None:
        people = np.concatenate([absent.embeddings, others.embeddings])
        alike = embeddings.add_evidence(alike, people, newcomers.embeddings, space)
    total = alike.astype(np.float64)
    total[: len(absent)] += _plausible(absent, newcomers.boxes, now, size)
    odds = _odds(total, len(absent))
    common = compared[: len(absent)].max(axis=0)
    patient = newcomers.ages < np.where(common < _ENOUGH, _PATIENCE + _OBSCURED, _PATIENCE)
    grown = np.minimum(newcomers.ages / _PATIENCE, 1)
    hopeful = odds.max(axis=0) > _NEW + (_RETURN - _NEW) * np.square(grown)
    if len(total) > 1:
        best = np.sort(total, axis=0)
        hopeful &= best[-1] - best[-2] > _APART * grown
    found[patient & (hopeful | (common < colours.LEAST))] = UNDECIDED
    sooner = np.where(common >= min(_ENOUGH, len(sides)), _SOONER, np.inf)
    least = np.where(patient, sooner, _RETURN)
    if space is not None and embeddings.known(absent.embeddings).any():
        waits = patient & ~embeddings.known(newcomers.embeddings)
        found[waits], least[waits] = UNDECIDED, np.inf
    for _ in range(count):
        row, column = np.unravel_index(int(odds.argmax()), odds.shape)
        if odds[row, column] == -np.inf:
            break
        if odds[row, column] >= least[column]:
            found[column] = row
            odds[row] = -np.inf
        odds[:, column] = -np.inf
    return found


def likeness(known: Floats, seen: Floats, ages: Doubles, by: LooksWeights = FITTED) -> tuple[Floats, NDArray[np.intp]]:
    """The evidence (A, N) that people with the pooled colours `known` (A, P, 4) are those with `seen` (N, P, 4), who
    were first seen `ages` (N,) seconds ago, and the number of pairs of keypoints that it rests on."""
    rows, columns = (part.ravel() for part in np.indices((len(known), len(seen))))
    shown = colours.Appearance(seen[..., :3], seen[..., 3] > 0)
    tint, contrast, worth = colours.differences(known, shown, rows, columns, min(_MANY, known.shape[1]))
    constant = by.colour + by.early * np.exp(-ages / _SETTLES)[columns]
    value: Floats = (worth * (constant - by.tint * np.log(tint) - by.contrast * np.log(contrast))).astype(np.float32)
    compared: NDArray[np.intp] = ((known[rows, :, 3] > 0) & shown.known[columns]).sum(axis=1)
    shape = len(known), len(seen)
    return value.reshape(shape), compared.reshape(shape)


def _odds(total: Doubles, absent: int) -> Doubles:
    """The logarithm of the odds (A, N) that each newcomer is one of the first `absent` people, given the evidence for
    all people.

    Half of the newcomers are taken to be somebody absent, one as likely as another. The others are somebody new, and
    dress as people do here: the more of those in sight a newcomer looks like, the likelier is a further one who does.
    """
    top = np.maximum(total.max(axis=0), 0)
    each = np.exp(total - top)
    back, here = each[:absent].sum(axis=0), each[absent:].sum(axis=0) * (absent / len(total))
    rest = np.maximum(back + here + absent * np.exp(-top) - each[:absent], 1e-9)
    value: Doubles = total[:absent] - top - np.log(rest)
    return value


def _plausible(absent: AbsentState, boxes: Floats, now: float, size: tuple[int, int]) -> Floats:
    """The evidence (A, N) of the size and the place of returns."""
    then, there = areas(absent.boxes), areas(boxes)
    gap = middles(absent.boxes)[:, None] - middles(boxes)[None]
    distance = (gap * gap).sum(axis=-1) / np.sqrt(then[:, None] * there[None])
    frame = np.maximum(size[0] * size[1] / then, 1)[:, None] / (2 * np.pi)
    spread = np.minimum(np.square(_START + _WANDER * (now - absent.seen))[:, None], frame)
    anywhere = (1 - _PLACED) * -np.expm1((absent.seen - now) / _FAR)[:, None]
    near = np.log(anywhere + (1 - anywhere) * frame / spread * np.exp(-distance / (2 * spread)))
    value: Floats = np.minimum(near, _MOST_PLACE) + _of_one_size(absent.boxes, boxes, size)
    value[~absent.boxes.any(axis=1)] = 0  # they were last seen by another camera
    return value


def _of_one_size(then: Floats, there: Floats, size: tuple[int, int]) -> Floats:
    """The evidence (A, N) of sizes. People who leave or enter are seen in part, so nobody is compared at a border."""
    whole, logs = [], []
    for boxes in (then, there):
        sides = boxes[:, 2:] - boxes[:, :2]
        margin = _BORDER * np.maximum(sides.max(axis=1), 1)[:, None]
        whole.append(((boxes[:, :2] > margin) & (boxes[:, 2:] < size - margin)).all(axis=1))
        logs.append(np.log(areas(boxes)) / 2)
    growth = np.abs(logs[0][:, None] - logs[1]) / _GROWTH
    evidence: Floats = np.where(whole[0][:, None] & whole[1], np.clip(0.5 - growth, -_MOST_GROWTH, 0.5), 0)
    return evidence
