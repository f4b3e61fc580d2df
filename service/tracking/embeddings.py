"""Appearance of people as embeddings of a network, beside their colours. See evidence.md.

Embeddings are kept as int8 relative to the largest value: only their directions count. Zeros are an unknown one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.nms import iou
from engines.poses import Floats
from service.tracking.state import UNCONFIRMED, TrackState

Embeddings = NDArray[np.int8]
"""(N, D)."""

_LEARNING = 0.3
"""The weight of the newest picture of a person in the mean of all."""
_COLOURS = 0.8
"""The weight of the evidence of colours beside that of embeddings, which partly show the same."""
_MOST = 6.0
"""The most that an embedding, and the colours beside it, count for or against one person."""
_ASIDE = 0.3
"""IoU with another box from which a crop may show the other person."""
_AT_ONCE = 8
"""People whose embedding is asked for at once."""
_RENEWAL_S, _RETRY_S = 2.0, 0.1
"""Seconds after which somebody with an id is looked at again, and somebody without one."""


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """What embeddings mean. name: of the network: embeddings of others cannot be compared. size: values of each.

    middle, slope: two with the cosine c are of one person with the log odds slope (c - middle).
    """

    name: str
    size: int
    middle: float
    slope: float


def pack(vectors: Floats) -> Embeddings:
    """Round vectors (N, D) of any length."""
    largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True, initial=0), 1e-12)
    rounded: Embeddings = np.round(vectors / largest * 127).astype(np.int8)
    return rounded


def known(embeddings: Embeddings) -> NDArray[np.bool_]:
    """Which of embeddings are known (N,)."""
    return np.asarray(embeddings.any(axis=1))


def learn(embeddings: Embeddings, rows: NDArray[np.intp], vectors: Floats) -> None:
    """Add new pictures of the people `rows` (M,) to their embeddings (T, D), in place. vectors: (M, D)."""
    seen = np.linalg.norm(vectors, axis=1) > 0
    rows, vectors = rows[seen], _normal(vectors[seen])
    old = embeddings[rows]
    gain = np.where(known(old), _LEARNING, 1.0)[:, None].astype(np.float32)
    directions = _normal(old.astype(np.float32))
    embeddings[rows] = pack(directions + (vectors - directions) * gain)


def add_evidence(of_colours: Floats, people: Embeddings, seen: Embeddings, space: EmbeddingSpace) -> Floats:
    """The evidence (A, N) that `people` (A, D) are those `seen` (N, D), from colours and embeddings together.

    of_colours: (A, N), which stand alone for pairs without both embeddings.
    """
    cosine = _normal(people.astype(np.float32)) @ _normal(seen.astype(np.float32)).T
    both = known(people)[:, None] & known(seen)[None]
    evidence = np.clip(space.slope * (cosine - space.middle), -_MOST, _MOST)
    beside = np.float32(_COLOURS) * np.clip(of_colours, -_MOST, _MOST)
    return np.where(both, evidence + beside, of_colours).astype(np.float32)


def _normal(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    value: Floats = vectors / np.maximum(length, 1e-12)
    return value


class Lookout:
    """Chooses the people whose embeddings are computed next: people without an id soon, others now and then.

    space: of the embeddings, None if there are none.
    """

    def __init__(self, space: EmbeddingSpace | None) -> None:
        self._space = space
        self._seen: dict[int, float] = {}
        self._asked = -np.inf
        self._rows = np.zeros(0, np.intp)

    def forget(self) -> None:
        """The people are others than before."""
        self._rows = np.zeros(0, np.intp)

    def choose(self, tracks: TrackState, waiting: NDArray[np.bool_], now: float, size: tuple[int, int]) -> Floats:
        """Return the boxes (M, 4) of the people to look at in the frame of `now`, of `size` (width, height).

        waiting: (T,) those who will get an id.
        """
        self._rows = np.zeros(0, np.intp)
        here = np.flatnonzero(tracks.missed == 0)
        if self._space is not None and len(here) and 0 not in size:
            self._rows = here[self._urgent(tracks.select(here), waiting[here], now)]
        return np.clip(tracks.boxes[self._rows], 0, np.tile(size, 2)).astype(np.float32)

    def learn(self, tracks: TrackState, vectors: Floats) -> None:
        """Take the embeddings of the people who were chosen last, in place. Those of another number are dropped."""
        if len(vectors) and len(vectors) == len(self._rows):
            learn(tracks.embeddings, self._rows, vectors)
        self._rows = np.zeros(0, np.intp)

    def _urgent(self, here: TrackState, waiting: NDArray[np.bool_], now: float) -> NDArray[np.intp]:
        """The rows of people in sight to look at, the most urgent first."""
        numbers = here.ids.tolist()
        self._seen = {number: self._seen[number] for number in numbers if number in self._seen}
        last = np.array([self._seen.get(number, -np.inf) for number in numbers])
        overlap = iou(here.boxes, here.boxes)
        np.fill_diagonal(overlap, 0)
        aside, has = overlap.max(axis=1, initial=0) < _ASIDE, known(here.embeddings)
        new = waiting & (~has | (aside & (now - self._asked >= _RETRY_S)))
        due = (here.ids != UNCONFIRMED) & (now - last >= _RENEWAL_S) & aside
        order = np.lexsort((last, has, ~new))
        chosen: NDArray[np.intp] = order[(new | due)[order]][:_AT_ONCE]
        if new[chosen].any():
            self._asked = now
        self._seen |= {numbers[row]: now for row in chosen if numbers[row] != UNCONFIRMED}
        return chosen
