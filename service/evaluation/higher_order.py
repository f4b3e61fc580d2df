"""HOTA: detection and association in one balanced metric, over thresholds of similarity.

Luiten, Osep, Dendorfer, Torr, Geiger, Leal-Taixe and Leibe, "HOTA: A Higher Order Metric for Evaluating Multi-Object
Tracking", IJCV 129, 2021, section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.ops.assignment import best_assignment
from engines.poses import Doubles
from service.evaluation.sequence import EPSILON, Numbered, TrackedSequence, number

ALPHAS: Doubles = np.arange(1, 20, dtype=np.float64) * 0.05
"""The thresholds of similarity: 0.05, 0.10, ... 0.95."""
ALPHAS.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class Hota:
    """Sums over all frames, each (19,) over ALPHAS, and the metrics computed from them (fractions).

    matches, misses, false_positives: numbers of people. association, association_recall, association_precision,
    similarity: summed over matches.
    """

    matches: Doubles
    misses: Doubles
    false_positives: Doubles
    association: Doubles
    association_recall: Doubles
    association_precision: Doubles
    similarity: Doubles

    @property
    def det_a(self) -> Doubles:
        """DetA: matches / (matches + misses + false positives)."""
        return self.matches / np.maximum(1, self.matches + self.misses + self.false_positives)

    @property
    def det_re(self) -> Doubles:
        """DetRe: share of the true people that are matched."""
        return self.matches / np.maximum(1, self.matches + self.misses)

    @property
    def det_pr(self) -> Doubles:
        """DetPr: share of the found people that are matched."""
        return self.matches / np.maximum(1, self.matches + self.false_positives)

    @property
    def ass_a(self) -> Doubles:
        """AssA: how well the ids of the matches agree over time."""
        return self.association / np.maximum(1, self.matches)

    @property
    def ass_re(self) -> Doubles:
        """AssRe: share of each person's frames that its id covers."""
        return self.association_recall / np.maximum(1, self.matches)

    @property
    def ass_pr(self) -> Doubles:
        """AssPr: share of each id's frames that belong to its person."""
        return self.association_precision / np.maximum(1, self.matches)

    @property
    def loc_a(self) -> Doubles:
        """LocA: mean similarity of the matches; 1 without matches, as in the authors' evaluation."""
        return np.where(self.matches > 0, self.similarity / np.maximum(1, self.matches), 1.0)

    @property
    def hota_per_alpha(self) -> Doubles:
        """The geometric mean of DetA and AssA."""
        return np.sqrt(self.det_a * self.ass_a)

    @property
    def hota(self) -> float:
        """HOTA: the mean over the thresholds."""
        return float(self.hota_per_alpha.mean())

    def __add__(self, other: Hota) -> Hota:
        return Hota(*(getattr(self, name) + getattr(other, name) for name in Hota.__slots__))


def hota(sequences: Sequence[TrackedSequence]) -> Hota:
    """Compute HOTA over all sequences together. Association and localisation are weighted by matches."""
    nothing = Hota(*(np.zeros(len(ALPHAS)) for _ in Hota.__slots__))
    return sum((_one(number(sequence)) for sequence in sequences), start=nothing)


def _one(numbered: Numbered) -> Hota:
    truth_frames, found_frames = numbered.truth_frames, numbered.found_frames
    agreement = _agreement(numbered)
    pairs, similarities = [np.zeros(0, np.int64)], [np.zeros(0)]
    for frame in numbered.frames:
        rows, columns = best_assignment(agreement[np.ix_(frame.truth, frame.found)] * frame.similarity)
        pairs.append(frame.truth[rows] * len(found_frames) + frame.found[columns])
        similarities.append(frame.similarity[rows, columns])
    pair, similarity = np.concatenate(pairs), np.concatenate(similarities)
    sums = np.zeros((5, len(ALPHAS)))
    for n, alpha in enumerate(ALPHAS):
        reached = similarity >= alpha - EPSILON
        together = np.bincount(pair[reached], minlength=agreement.size).reshape(agreement.shape)
        either = truth_frames[:, None] + found_frames[None, :] - together
        sums[:, n] = (
            reached.sum(),
            (together * together / np.maximum(1, either)).sum(),
            (together * together / truth_frames[:, None]).sum(),
            (together * together / found_frames[None, :]).sum(),
            similarity[reached].sum(),
        )
    return Hota(sums[0], truth_frames.sum() - sums[0], found_frames.sum() - sums[0], *sums[1:])


def _agreement(numbered: Numbered) -> Doubles:
    """The global alignment score (G, T) of each true person and each found id over the sequence. Used as a weight, it
    makes the matching of each frame maximise association. A pair's similarity counts less if either side is similar to
    others."""
    together = np.zeros((len(numbered.truth_frames), len(numbered.found_frames)))
    for frame in numbered.frames:
        similarity = frame.similarity
        either = similarity.sum(axis=1, keepdims=True) + similarity.sum(axis=0, keepdims=True) - similarity
        share = np.divide(similarity, either, out=np.zeros_like(similarity), where=either > EPSILON)
        together[np.ix_(frame.truth, frame.found)] += share
    return together / (numbered.truth_frames[:, None] + numbered.found_frames[None, :] - together)
