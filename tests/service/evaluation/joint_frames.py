"""People for PoseTrack's metrics: heads of 10 pixels, joints at distances that the tests choose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from engines.poses import Poses
from engines.skeletons import POSETRACK_15
from service.evaluation import JointFrame
from service.evaluation.posetrack import pair
from service.formats.posetrack import read_posetrack
from tests.shared import SHARED

HEAD = 10.0
SETS = ("clean_pt17", "clean_pt18", "quirk_pt17", "quirk_pt18")
_GOLDENS = SHARED / "goldens/posetrack"


def people(*places: tuple[int, float], off: float = 0.0, scores: Sequence[float] | None = None) -> Poses:
    """People by (id, place), 1000 pixels between places, all joints `off` head sizes away from there."""
    n, k = len(places), len(POSETRACK_15)
    points = np.zeros((n, k, 2), np.float32)
    points[:, :, 0] = 1000 * np.array([place for _, place in places])[:, None] + off * HEAD
    each = np.ones(n) if scores is None else np.array(scores)
    return Poses(
        points,
        np.repeat(each[:, None], k, axis=1).astype(np.float32),
        np.zeros((n, 4), np.float32),
        each.astype(np.float32),
        POSETRACK_15,
        np.array([identity for identity, _ in places], np.int64),
    )


def frame(truth: Poses, found: Poses, *, labelled: bool = True) -> JointFrame:
    return JointFrame(truth, found, np.full(len(truth), HEAD), labelled)


NOBODY = Poses.empty(POSETRACK_15)


@cache
def measured(name: str) -> list[list[JointFrame]]:
    """Return the sequences of one of SETS."""
    files = sorted((_GOLDENS / name / "gt").iterdir())
    return [pair(read_posetrack(file), read_posetrack(_GOLDENS / name / "pred" / file.name)) for file in files]


@cache
def measurements(name: str) -> dict[str, Any]:
    """Return the metrics that poseval computed for it."""
    results: dict[str, Any] = json.loads((_GOLDENS / "posetrack_results.json").read_text("utf-8"))["results"][name]
    return results
