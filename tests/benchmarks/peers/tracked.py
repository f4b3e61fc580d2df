"""Tracking poses with a peer: all people of all frames are passed as one npz, and an id per person is returned."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.poses import Poses
from tests.benchmarks.peers.environment import peer_python

Ids = list[NDArray[np.int64]]
"""One id per person per frame, -1 for none."""


def track_with(
    name: str, requirement: str, script: str, settings: Mapping[str, object], frames: Sequence[Poses]
) -> Ids:
    """Run `script` of this folder in the environment `name`, which has `requirement`."""
    python = peer_python(name, requirement)
    people = Poses.join(frames)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "poses.npz", Path(folder) / "ids.npy"
        np.savez(
            source,
            count=len(frames),
            frames=np.repeat(np.arange(len(frames)), [len(poses) for poses in frames]),
            keypoints=people.keypoints,
            keypoint_scores=people.keypoint_scores,
            boxes=people.boxes,
            scores=people.scores,
        )
        command: list[str | Path] = [python, Path(__file__).with_name(script), source, target, json.dumps(settings)]
        subprocess.run(command, check=True, capture_output=True)
        ids = np.load(target).astype(np.int64)
    return np.split(ids, np.cumsum([len(poses) for poses in frames])[:-1])
