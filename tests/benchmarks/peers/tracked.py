"""Tracking poses with peers. All people of all videos are passed as one npz, and come back with an id each."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.poses import Poses
from tests.benchmarks.peers.environment import peer_python

NORFAIR, TRACKERS_PACKAGE = "norfair==2.3.0", "trackers==2.6.1"

Ids = list[NDArray[np.int64]]
"""One id per person per frame, -1 for none."""


@dataclass(frozen=True, slots=True, eq=False)
class PeerVideo:
    """What a peer gets of a video: the poses of each frame, the times in seconds, and the paths of the pictures, ""
    where there is none or none that fits the poses. fps: frames a second, for settings that depend on it.
    """

    people: Sequence[Poses]
    times: Sequence[float]
    fps: float
    pictures: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class PeerIds:
    """The ids of a video, and the processor seconds that the tracker took."""

    ids: Ids
    seconds: float


def track_all(
    name: str, requirement: str, script: str, settings: Sequence[Mapping[str, object]], videos: Sequence[PeerVideo]
) -> list[list[PeerIds]]:
    """Run `script` of this folder in the environment `name`, which has `requirement`, on every video with each of the
    settings. Returns the ids by setting and video."""
    python = peer_python(name, requirement)
    frames = [poses for video in videos for poses in video.people]
    people = Poses.join(frames)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "poses.npz", Path(folder) / "ids.npz"
        np.savez(
            source,
            videos=np.repeat(np.arange(len(videos)), [len(video.people) for video in videos]),
            times=np.concatenate([np.asarray(video.times, np.float64) for video in videos]),
            pictures=np.array([picture for video in videos for picture in video.pictures]),
            fps=np.array([video.fps for video in videos]),
            frames=np.repeat(np.arange(len(frames)), [len(poses) for poses in frames]),
            keypoints=people.keypoints,
            keypoint_scores=people.keypoint_scores,
            boxes=people.boxes,
            scores=people.scores,
        )
        command: list[str | Path] = [python, Path(__file__).with_name(script), source, target]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, text=True, input=json.dumps(list(settings)))
        found = np.load(target)
        ids, seconds = found["ids"], found["seconds"]
    ends = np.cumsum([len(poses) for poses in frames])[:-1]
    begins = np.cumsum([0, *(len(video.people) for video in videos)])
    each = [np.split(row, ends) for row in ids]
    return [
        [PeerIds(each[s][begins[v] : begins[v + 1]], float(seconds[s, v])) for v in range(len(videos))]
        for s in range(len(settings))
    ]


def track_with(
    name: str, requirement: str, script: str, settings: Mapping[str, object], people: Sequence[Poses], fps: float
) -> Ids:
    """The ids of one video with one setting."""
    times = [n / fps for n in range(len(people))]
    return track_all(name, requirement, script, [settings], [PeerVideo(people, times, fps, [""] * len(people))])[0][
        0
    ].ids
