"""CLEAR MOT: misses, false positives and identity switches, frame by frame.

Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", EURASIP Journal on
Image and Video Processing, 2008, section 2; MT, PT and ML of Li, Huang and Nevatia, CVPR 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from engines.ops.assignment import best_assignment
from service.evaluation.sequence import EPSILON, TrackedSequence, number

_KEEPS = 1000.0
"""Bonus for pairs of the last frame. Similarities are at most 1, so a pair is kept while it reaches the threshold."""
_MOSTLY, _HARDLY = 0.8, 0.2
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class ClearMot:
    """Counts over all frames, and the metrics computed from them (fractions; 0 if there is nothing to measure).

    matches, misses, false_positives: numbers of people, summed over frames. switches: matches to another id than the
    person's last one. fragments: how often a person was matched again after an interruption. mostly_tracked,
    partly_tracked, mostly_lost: people who were matched in more than 80 %, in between, or in less than 20 % of their
    frames. similarity: summed over matches.
    """

    matches: int = 0
    misses: int = 0
    false_positives: int = 0
    switches: int = 0
    fragments: int = 0
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0
    similarity: float = 0.0

    @property
    def mota(self) -> float:
        """MOTA: 1 - (misses + false positives + switches) / true people. At most 1, without a lower bound."""
        people = self.matches + self.misses
        return (self.matches - self.false_positives - self.switches) / people if people else 0.0

    @property
    def motp(self) -> float:
        """MOTP: mean similarity of the matches."""
        return self.similarity / self.matches if self.matches else 0.0

    @property
    def recall(self) -> float:
        """Matches / true people."""
        return self.matches / max(1, self.matches + self.misses)

    @property
    def precision(self) -> float:
        """Matches / found people."""
        return self.matches / max(1, self.matches + self.false_positives)

    def __add__(self, other: ClearMot) -> ClearMot:
        return ClearMot(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def clear_mot(sequences: Sequence[TrackedSequence], threshold: float = 0.5) -> ClearMot:
    """Compute CLEAR MOT over all sequences together. threshold: least similarity of a match."""
    return sum((_one(sequence, threshold) for sequence in sequences), start=ClearMot())


def _one(sequence: TrackedSequence, threshold: float) -> ClearMot:
    numbered = number(sequence)
    people = len(numbered.truth_frames)
    last = np.full(people, _NOBODY)  # the id that each true person had when it was last matched
    previous = np.full(people, _NOBODY)  # the same, if that was in the last frame with true and found people
    matched, appearances = np.zeros(people, np.int64), np.zeros(people, np.int64)
    false_positives = switches = 0
    similarity = 0.0
    for frame in numbered.frames:
        if not frame.similarity.size:
            false_positives += len(frame.found)
            continue
        alike = frame.similarity >= threshold - EPSILON
        kept = previous[frame.truth][:, None] == frame.found[None, :]
        rows, columns = best_assignment(alike * (frame.similarity + _KEEPS * kept))
        real = alike[rows, columns]
        rows, columns = rows[real], columns[real]
        person, found = frame.truth[rows], frame.found[columns]

        switches += int(((last[person] != _NOBODY) & (last[person] != found)).sum())
        appearances[person] += previous[person] == _NOBODY
        last[person] = found
        previous[:] = _NOBODY
        previous[person] = found
        matched[person] += 1
        false_positives += len(frame.found) - len(rows)
        similarity += float(frame.similarity[rows, columns].sum())
    share = matched / numbered.truth_frames
    mostly, hardly = int((share > _MOSTLY).sum()), int((share < _HARDLY).sum())
    return ClearMot(
        matches=int(matched.sum()),
        misses=int((numbered.truth_frames - matched).sum()),
        false_positives=false_positives,
        switches=switches,
        fragments=int(np.maximum(appearances - 1, 0).sum()),
        mostly_tracked=mostly,
        partly_tracked=people - mostly - hardly,
        mostly_lost=hardly,
        similarity=similarity,
    )
