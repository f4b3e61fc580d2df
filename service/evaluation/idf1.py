"""Identity metrics: how long each person is tracked under one id, over whole sequences.

Ristani, Solera, Zou, Cucchiara and Tomasi, "Performance Measures and a Data Set for Multi-Target, Multi-Camera
Tracking", ECCV 2016 Workshops, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from engines.ops.assignment import best_assignment
from service.evaluation.sequence import EPSILON, TrackedSequence, number


@dataclass(frozen=True, slots=True)
class Identity:
    """Detections with the right id (IDTP), true people without one (IDFN), found people with a wrong id (IDFP).

    Each person is assigned to at most one id. Metrics are fractions, 0 if there is nothing to measure.
    """

    true_positives: int = 0
    false_negatives: int = 0
    false_positives: int = 0

    @property
    def idf1(self) -> float:
        """The harmonic mean of id precision and id recall."""
        return self.true_positives / max(1.0, self.true_positives + 0.5 * (self.false_negatives + self.false_positives))

    @property
    def recall(self) -> float:
        """Share of the true people that are found with the right id."""
        return self.true_positives / max(1, self.true_positives + self.false_negatives)

    @property
    def precision(self) -> float:
        """Share of the found people that have the right id."""
        return self.true_positives / max(1, self.true_positives + self.false_positives)

    def __add__(self, other: Identity) -> Identity:
        return Identity(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def identity(sequences: Sequence[TrackedSequence], threshold: float = 0.5) -> Identity:
    """Compute IDF1 over all sequences together. Ids of different sequences are unrelated.

    threshold: least similarity of a true and a found person who can be the same.
    """
    return sum((_one(sequence, threshold) for sequence in sequences), start=Identity())


def _one(sequence: TrackedSequence, threshold: float) -> Identity:
    numbered = number(sequence)
    together = np.zeros((len(numbered.truth_frames), len(numbered.found_frames)))
    for frame in numbered.frames:
        rows, columns = np.nonzero(frame.similarity >= threshold - EPSILON)
        together[frame.truth[rows], frame.found[columns]] += 1
    right = int(together[best_assignment(together)].sum())
    truth, found = int(numbered.truth_frames.sum()), int(numbered.found_frames.sum())
    return Identity(right, truth - right, found - right)
