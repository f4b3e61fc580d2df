"""Fits the constants of the tracker's evidence: python -m tests.benchmarks fit_tracking [--json FILE]

Needs ../shared/data/tracking; the environment variable POSEWIRE_TRACKING may name another folder of such sequences.
Each has pictures, gt.txt and poses.npz, as the README there describes. A tracker follows each sequence with all frames,
every third, about three and two frames a second, and a fifth of the poses missing. It gets the true assignment instead
of its own, so that its expectations are those of a tracker that makes no mistake. All pairs of people and poses that it
would have compared are samples. The constants minimise the log loss of `evidence.weigh`, starting from those in use.
Each sequence is also left out in turn: `left out` is its loss with constants fitted to the others. The constants in use
were fitted to more than these sequences and by other weights, see service/tracking/evidence.md: this compares.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.ops.assignment import best_assignment
from engines.ops.nms import iou
from engines.poses import Floats, Frame, Poses
from engines.skeletons import COCO_17
from service.tracking import PoseTracker, TrackerConfig, TrackState, evidence, tracker
from service.tracking.evidence import FITTED, Cues, Weights
from service.tracking.matching import Scene
from tests.benchmarks.report import Row, main
from tests.shared import SHARED

_FOLDERS = (SHARED / "data/tracking", Path(os.environ.get("POSEWIRE_TRACKING", "/nonexistent")))
_RATES = {"tud-campus": 25.0, "pets-s3mf1": 7.0}
_RATE = 25.0
"""Frames a second of other sequences."""
_ROUNDS, _STEP = 120, 0.03
_CONFIG = TrackerConfig(birth_score=0.0, weak_score=0.0, confirm_seconds=0.0, lost_seconds=12.0, duplicate_oks=1.0)
"""Every pose is a person at once, so that the truth alone decides."""


class Sequence(NamedTuple):
    """fps: frames a second. who: the true person of each pose of each frame, -1 for none, -2 for unclear."""

    name: str
    fps: float
    frames: list[Frame]
    poses: list[Poses]
    who: list[NDArray[np.intp]]


class Samples(NamedTuple):
    """The cues of P pairs, and 1 for those that are one person."""

    cues: Cues
    same: Floats


def read(folder: Path) -> Sequence:
    """Read a sequence of a folder."""
    stored, truth = np.load(folder / "poses.npz"), np.loadtxt(folder / "gt.txt", delimiter=",")
    frames, poses, who = [], [], []
    for number, file in enumerate(sorted(folder.glob("*.jpg"))):
        frames.append(np.asarray(cv2.imread(str(file), cv2.IMREAD_COLOR_RGB), np.uint8))
        rows = (stored["frames"] == number) & (stored["scores"] >= 0.1)
        keypoints, keypoint_scores, boxes, scores = (
            stored[name][rows].astype(np.float32) for name in ("keypoints", "keypoint_scores", "boxes", "scores")
        )
        poses.append(Poses(keypoints, keypoint_scores, boxes, scores, COCO_17))
        here = truth[truth[:, 0] == number + 1]
        corners = np.concatenate([here[:, 2:4], here[:, 2:4] + here[:, 4:6]], axis=1).astype(np.float32)
        overlap = iou(corners, boxes)
        found = np.where(overlap.max(axis=0, initial=0) > 0.3, -2, -1)
        for row, column in zip(*best_assignment(overlap), strict=True):
            if overlap[row, column] >= 0.5:
                found[column] = int(here[row, 1])
        who.append(found.astype(np.intp))
    return Sequence(folder.name, _RATES.get(folder.name, _RATE), frames, poses, who)


def samples(sequence: Sequence, stride: int, missing: float) -> Iterator[Samples]:
    """Follow a sequence with the true assignment, and yield the pairs of each frame."""
    rng, follower = np.random.default_rng(0), PoseTracker(COCO_17, _CONFIG)
    people: dict[int, int] = {}  # by id of the tracker
    for number in range(0, len(sequence.frames), stride):
        kept = rng.uniform(size=len(sequence.poses[number])) >= missing
        poses, who = sequence.poses[number].select(kept), sequence.who[number][kept]
        pairs: list[Samples] = []

        def true_match(
            tracks: TrackState,
            scene: Scene,
            _: object,
            sigmas: Floats,
            who: NDArray[np.intp] = who,
            pairs: list[Samples] = pairs,
        ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
            known = np.array([people.get(number, -3) for number in tracks.ids.tolist()], np.intp)
            unseen = scene.now - tracks.seen
            near, cues = evidence.between(tracks, scene.held, unseen, scene.seen, scene.appearance, sigmas)
            clear = (who[near.poses] != -2) & ((who[near.poses] >= 0) | (known[near.tracks] >= 0))
            same = (known[near.tracks] == who[near.poses])[clear].astype(np.float32)
            pairs.append(Samples(cues.where(clear), same))
            rows, chosen = np.nonzero((known[:, None] == who) & (who >= 0))
            return rows, chosen

        with mock.patch.object(tracker, "match", true_match):
            result = follower.update(poses, sequence.frames[number], number / sequence.fps)
        assert result.ids is not None
        people.update({given: true for given, true in zip(result.ids.tolist(), who.tolist(), strict=True) if given > 0})
        yield from pairs


def gather(sequence: Sequence) -> Samples:
    """All samples of a sequence."""
    slow = [(max(1, round(sequence.fps / rate)), 0.0) for rate in (3.0, 2.0)]
    parts = [part for settings in ((1, 0.0), (3, 0.0), *slow, (1, 0.2)) for part in samples(sequence, *settings)]
    columns = [np.concatenate([getattr(part.cues, field.name) for part in parts]) for field in fields(Cues)]
    return Samples(Cues(*columns), np.concatenate([part.same for part in parts]))


def loss(given: list[Samples], by: Weights) -> float:
    """The log loss, in which every sequence counts alike."""
    each = [np.logaddexp(0, np.where(one.same > 0, -1, 1) * evidence.weigh(one.cues, by)).mean() for one in given]
    return float(np.mean(each))


def fit(given: list[Samples]) -> Weights:
    """Minimise the loss from the constants in use: Adam (Kingma and Ba, 2015) with differences for gradients."""
    names = [field.name for field in fields(Weights)]
    # Spreads and tails stay positive as logarithms.
    logs = np.array([name.endswith(("spread", "growth", "tail", "fades", "delay", "upright")) for name in names])
    start = np.array([getattr(FITTED, name) for name in names])
    at = np.where(logs, np.log(np.where(logs, start, 1)), start)

    def weights(at: NDArray[np.float64]) -> Weights:
        return Weights(**dict(zip(names, np.where(logs, np.exp(np.where(logs, at, 0)), at).tolist(), strict=True)))

    mean, square = np.zeros_like(at), np.zeros_like(at)
    for number in range(1, _ROUNDS + 1):
        before = loss(given, weights(at))
        gradient = np.array([(loss(given, weights(at + step)) - before) / 1e-3 for step in np.eye(len(at)) * 1e-3])
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        at = at - _STEP * (mean / (1 - 0.9**number)) / (np.sqrt(square / (1 - 0.99**number)) + 1e-8)
    return weights(at)


def run() -> list[Row]:
    """A row per sequence with losses, and one per constant."""
    folders = sorted(file.parent for folder in _FOLDERS for file in folder.glob("*/poses.npz"))
    given = {folder.name: gather(read(folder)) for folder in folders}
    fitted = fit(list(given.values()))
    rows: list[Row] = []
    for name, one in given.items():
        others = [other for key, other in given.items() if key != name]
        rows.append(
            {
                "name": name,
                "pairs": len(one.same),
                "in use": f"{loss([one], FITTED):.4f}",
                "fitted": f"{loss([one], fitted):.4f}",
                "left out": f"{loss([one], fit(others)):.4f}" if others else "",
                "without looks": f"{loss([one], replace(FITTED, colour=0, tint=0, contrast=0)):.4f}",
            }
        )
    constants = [field.name for field in fields(Weights)]
    rows += [
        {"name": k, "in use": f"{getattr(FITTED, k):.3f}", "fitted": f"{getattr(fitted, k):.3f}"} for k in constants
    ]
    return rows


if __name__ == "__main__":
    main(run)
