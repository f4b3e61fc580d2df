"""Smoothing of keypoints, with one and with both directions of time: python -m tests.benchmarks smoothing [--json FILE]

Two kinds of motion with inexact keypoints, of which the truth is known: the drawn scenes that tracking is tested on
(15 frames a second), and one person at 30 frames a second who rests, walks, waves or starts to run. The noise of a
keypoint is its OKS sigma times the size of the person, times 0.6 or that of the scene's detector; `unseen` leaves out a
fifth of the keypoints. Every keypoint has its true identity.

accel: mean length of the error of the acceleration (the second difference), thousandths of the person's size per
frame squared. lag: milliseconds by which the result is behind the truth, from the error along the velocity, by least
squares. error: mean distance from the truth, thousandths of the person's size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.poses import Doubles, Floats, Poses
from engines.skeletons import COCO_17
from service.tracking.smoothing import OneEuro, OneEuroConfig
from service.tracking.two_way_smoothing import TwoWaySmoother
from tests.benchmarks.report import Row, main
from tests.people import FIGURE
from tests.plans import PLANS
from tests.service.tracking.metrics import scene

_FPS = 30.0
_NOISE = 0.6
_SECONDS = 8.0
_SIZE = 100.0
_SEEDS = 3

Recording = Sequence[tuple[float, Poses, Poses]]
"""Timestamp, truth and what was seen, both with true ids."""
Smooth = Callable[[Recording], list[Poses]]
MOTIONS: dict[str, Callable[[Doubles], Doubles]] = {
    "rest": lambda t: 0 * t,
    "walk": lambda t: 1.2 * t,
    "wave": lambda t: 0.3 * np.sin(2 * np.pi * 1.5 * t),
    "run": lambda t: np.where(t % 4 < 2, 0.0, 4 * (t % 4 - 2)),
}
"""The way of a person along x in sizes, from seconds."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums over all keypoints of all sequences."""

    acceleration: list[float]
    error: list[float]
    along: list[float]
    speeds: list[float]

    @property
    def row(self) -> Row:
        moving = sum(self.speeds)
        return {
            "accel": round(1e3 * float(np.mean(self.acceleration)), 2),
            "lag ms": round(1e3 * sum(self.along) / moving, 1) if moving else "",
            "error": round(1e3 * float(np.mean(self.error)), 2),
        }


def moving(name: str, seed: int, unseen: float) -> Recording:
    """One person who moves as in MOTIONS."""
    rng = np.random.default_rng(seed)
    steps = []
    for t in np.arange(0, _SECONDS, 1 / _FPS):
        points = (FIGURE * _SIZE * 2 + 500).astype(np.float64)
        points[:, 0] += _SIZE * MOTIONS[name](np.asarray(t))
        noise = rng.normal(size=points.shape) * (COCO_17.sigmas * _SIZE * _NOISE)[:, None]
        seen = rng.uniform(size=len(points)) >= unseen
        scores = np.where(seen, 0.9, 0.0).astype(np.float32)
        steps.append((float(t), _person(points, np.ones_like(scores)), _person(points + noise, scores)))
    return steps


def _person(points: Doubles, scores: Floats) -> Poses:
    middle = points.mean(axis=0)
    box = np.concatenate([middle - _SIZE / 2, middle + _SIZE / 2]).astype(np.float32)[None]
    one = np.ones(1, np.float32)
    return Poses(points.astype(np.float32)[None], scores.astype(np.float32)[None], box, one, COCO_17, np.array([1]))


def drawn(name: str, seed: int) -> Recording:
    """A drawn scene; false people have the id -1."""
    return [
        (step.timestamp, step.truth, replace(step.seen, ids=np.where(step.who > 0, step.who, -1)))
        for step in scene(name, seed)
    ]


def raw(sequence: Recording) -> list[Poses]:
    """What was seen."""
    return [seen for _, _, seen in sequence]


def one_euro(config: OneEuroConfig, sequence: Recording) -> list[Poses]:
    """As in streams."""
    smoother = OneEuro(config)
    return [smoother.smooth(seen, t) for t, _, seen in sequence]


def two_way(config: OneEuroConfig, sequence: Recording) -> list[Poses]:
    """As `posewire video` does."""
    smoother = TwoWaySmoother[None](config)
    done = [people for t, _, seen in sequence for _, people in smoother.push(None, seen, t)]
    return [*done, *(people for _, people in smoother.flush())]


SMOOTHERS: dict[str, Smooth] = {
    "as seen": raw,
    "One-Euro": lambda sequence: one_euro(OneEuroConfig(), sequence),
    "One-Euro, cutoff 0.3 Hz": lambda sequence: one_euro(OneEuroConfig(min_cutoff=0.3), sequence),
    "both directions": lambda sequence: two_way(OneEuroConfig(), sequence),
}


def measure(sequences: Sequence[Recording], smooth: Smooth) -> Figures:
    """Compare a smoother's results with the truth, keypoints that were not seen left out."""
    figures = Figures([], [], [], [])
    for sequence in sequences:
        smoothed = smooth(sequence)
        for id_ in {int(n) for _, truth, _ in sequence if truth.ids is not None for n in truth.ids}:
            _add(figures, *_track(sequence, smoothed, id_), 1 / float(np.median(np.diff([t for t, _, _ in sequence]))))
    return figures


def _track(sequence: Recording, smoothed: Sequence[Poses], id_: int) -> tuple[Doubles, Doubles]:
    """The true and the smoothed keypoints of a person, (T, K, 2) each, in sizes; NaN where not seen."""
    shape = len(sequence), len(COCO_17), 2
    truth, found = np.full(shape, np.nan), np.full(shape, np.nan)
    for n, ((_, true, _), poses) in enumerate(zip(sequence, smoothed, strict=True)):
        if true.ids is None or poses.ids is None:
            continue
        row, column = np.flatnonzero(true.ids == id_), np.flatnonzero(poses.ids == id_)
        if len(row) and len(column):
            size = float(np.sqrt((true.boxes[row[0], 2:] - true.boxes[row[0], :2]).prod()))
            truth[n] = true.keypoints[row[0]] / size
            seen = poses.keypoint_scores[column[0]] >= OneEuroConfig().min_score
            found[n, seen] = poses.keypoints[column[0], seen] / size
    return truth, found


def _add(figures: Figures, truth: Doubles, found: Doubles, fps: float) -> None:
    error = found - truth
    lengths = np.linalg.norm(np.diff(error, n=2, axis=0), axis=-1)
    figures.acceleration.extend(lengths[np.isfinite(lengths)].tolist())
    distances = np.linalg.norm(error, axis=-1)
    figures.error.extend(distances[np.isfinite(distances)].tolist())
    velocity = (truth[2:] - truth[:-2]) * fps / 2
    along = -(error[1:-1] * velocity).sum(axis=-1)
    known = np.isfinite(along)
    figures.along.append(float(along[known].sum()))
    figures.speeds.append(float((velocity**2).sum(axis=-1)[known].sum()))


def run() -> list[Row]:
    """Measure every smoother on every motion, and on all drawn scenes together."""
    kinds: dict[str, list[Recording]] = {
        f"{name}{', unseen' if unseen else ''}": [moving(name, seed, unseen) for seed in range(_SEEDS)]
        for name in MOTIONS
        for unseen in ((0.0, 0.2) if name == "walk" else (0.0,))
    }
    kinds["drawn scenes"] = [drawn(name, seed) for name in PLANS if name != "crossing" for seed in range(2)]
    return [
        {"motion": kind, "smoothing": name, **measure(sequences, smooth).row}
        for kind, sequences in kinds.items()
        for name, smooth in SMOOTHERS.items()
    ]


if __name__ == "__main__":
    main(run)
