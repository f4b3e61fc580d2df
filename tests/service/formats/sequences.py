"""Sequences that a file reproduces exactly, and comparisons after writing and reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
from hypothesis import settings
from hypothesis import strategies as st

from engines.poses import Poses
from engines.skeletons import Skeleton
from service.formats.sequence import PoseFrame, PoseSequence, extent

few = settings(max_examples=25, deadline=None)
"""Few examples, because each writes and reads a file."""


def sequences(skeleton: Skeleton) -> st.SearchStrategy[PoseSequence]:
    """Up to four frames of 640 x 480 pixels, with ids in all of them or in none."""
    return st.integers(0, 2**32 - 1).map(lambda seed: _sequence(skeleton, np.random.default_rng(seed)))


def _sequence(skeleton: Skeleton, random: np.random.Generator) -> PoseSequence:
    tracked = bool(random.integers(2))
    return PoseSequence(
        "video",
        skeleton,
        tuple(
            PoseFrame(f"{n}.jpg", _people(skeleton, random, tracked=tracked), number=n, width=640, height=480)
            for n in range(random.integers(5))
        ),
    )


def _people(skeleton: Skeleton, random: np.random.Generator, *, tracked: bool) -> Poses:
    """Up to three people, with coordinates in quarters of a pixel and scores in eighths. Some keypoints are missing."""
    n, k = int(random.integers(4)), len(skeleton)
    points = random.integers(-400, 8000, (n, k, 2)).astype(np.float32) / np.float32(4)
    scores = random.integers(0, 9, (n, k)).astype(np.float32) / np.float32(8)
    scores[:, 0] = np.maximum(scores[:, 0], np.float32(1 / 8))  # everybody has a keypoint
    points[scores == 0] = 0
    people = random.integers(0, 9, n).astype(np.float32) / np.float32(8)
    ids = np.unique(random.integers(0, 2**40, n)) if tracked and n else None
    return Poses(points, scores, extent(points, scores), people, skeleton, ids)


def assert_same_people(read: Poses, written: Poses, *, scores: bool = True) -> None:
    """Check that keypoints, boxes and ids are equal; with `scores`, the scores too."""
    assert read.skeleton == written.skeleton
    assert len(read) == len(written)
    np.testing.assert_array_equal(read.keypoints, written.keypoints)
    np.testing.assert_array_equal(read.boxes, written.boxes)
    if written.ids is None:
        assert read.ids is None
    elif len(written):
        np.testing.assert_array_equal(read.ids, written.ids)
    if scores:
        np.testing.assert_array_equal(read.keypoint_scores, written.keypoint_scores)
    else:
        np.testing.assert_array_equal(read.keypoint_scores > 0, written.keypoint_scores > 0)


def save(path: Path, document: object) -> Path:
    """Write JSON."""
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))
    return path
