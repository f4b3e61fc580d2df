"""Small sequences for the tracking metrics, and TrackEval's results for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from service.evaluation import TrackedFrame
from tests.shared import SHARED

METRICS = SHARED / "goldens/metrics"
SEQUENCES = ("seq_a", "seq_b", "seq_c", "seq_gaps", "seq_no_tracker", "seq_no_gt")


def frame(
    pairs: Mapping[int, int], similarity: float = 1.0, missed: Sequence[int] = (), extra: Sequence[int] = ()
) -> TrackedFrame:
    """A frame of true people and their found ids, with one similarity, of missed people, and of extra ids."""
    matrix = np.zeros((len(pairs) + len(missed), len(pairs) + len(extra)))
    matrix[range(len(pairs)), range(len(pairs))] = similarity
    return TrackedFrame([*pairs, *missed], [*pairs.values(), *extra], matrix)  # type: ignore[arg-type]


def measured_video(name: str) -> list[TrackedFrame]:
    """Return one of SEQUENCES."""
    arrays = np.load(METRICS / "trackeval.npz")
    people, found = arrays[f"{name}_gt_count"], arrays[f"{name}_trk_count"]
    truth_ids = np.split(arrays[f"{name}_gt_ids"], np.cumsum(people)[:-1])
    found_ids = np.split(arrays[f"{name}_trk_ids"], np.cumsum(found)[:-1])
    matrices = np.split(arrays[f"{name}_sim_flat"], np.cumsum(people * found)[:-1])
    return [
        TrackedFrame(t, f, m.reshape(len(t), len(f))) for t, f, m in zip(truth_ids, found_ids, matrices, strict=True)
    ]


@cache
def measurements() -> dict[str, Any]:
    """TrackEval's metrics: per sequence, and for all together as `combined`."""
    document = json.loads((METRICS / "trackeval.json").read_text("utf-8"))
    return {**document["per_sequence"], "combined": document["combined"]}


def videos(name: str) -> list[list[TrackedFrame]]:
    """Return one of SEQUENCES, or all of them for `combined`."""
    return [measured_video(each) for each in (SEQUENCES if name == "combined" else (name,))]
