"""The real sequences on which trackers are compared: true people, the poses that a network found, and pictures."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from configparser import ConfigParser
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engines.ops.assignment import best_assignment
from engines.ops.nms import iou
from engines.poses import Floating, Frame, Poses
from engines.skeletons import COCO_17
from service.evaluation import compare_poses
from service.media.decode import ImageLimits, decode
from tests.benchmarks import posetrack
from tests.shared import SHARED

MIN_SCORE = 0.2
"""Poses below it are left out. Below 0.2 there are hardly any real people."""
ALIKE = 0.5
"""The least similarity of a true and a found person who can be the same."""
_MODEL = "tinypose"
_RATES = {"tud-campus": 25.0, "pets-s3mf1": 7.0}
"""Frames a second of sequences without a seqinfo.ini."""
_COLUMNS_WITH_CLASS = 9
_PEDESTRIAN = 1


@dataclass(frozen=True, slots=True, eq=False)
class RealSequence:
    """A video of F frames. pictures: (F,) files. people: the poses that were found. truth: the true ids. similarity:
    (G, N) of the true and the found people of each frame. found: the row of each true person's pose, -1 without one.
    """

    name: str
    fps: float
    pictures: Sequence[Path]
    people: Sequence[Poses]
    truth: Sequence[NDArray[np.int64]]
    similarity: Sequence[Floating]
    found: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.people)

    def picture(self, number: int) -> Frame:
        """The pixels of a frame."""
        return read_picture(self.pictures[number])

    @staticmethod
    def of(
        name: str,
        fps: float,
        pictures: Sequence[Path],
        people: Sequence[Poses],
        truth: Sequence[tuple[NDArray[np.int64], Floating]],
    ) -> RealSequence:
        """truth: the ids of each frame's people and their similarity (G, N) with its poses."""
        return RealSequence(
            name,
            fps,
            pictures,
            people,
            [ids for ids, _ in truth],
            [similarity for _, similarity in truth],
            [_rows(similarity) for _, similarity in truth],
        )


def read_picture(path: Path) -> Frame:
    """The pixels of a file."""
    return decode(path.read_bytes(), ImageLimits()).pixels


def _rows(similarity: Floating) -> NDArray[np.int64]:
    alike = similarity >= ALIKE
    rows, columns = best_assignment(similarity * alike)
    found = np.full(len(similarity), -1)
    real = alike[rows, columns]
    found[rows[real]] = columns[real]
    return found


def read_all() -> list[RealSequence]:
    """PoseTrack and ../shared/data/tracking if they are there, and the folders that POSEWIRE_TRACKING names: sequences
    in MOT's layout or folders of such, separated as in PATH."""
    named = [Path(folder) for folder in os.environ.get("POSEWIRE_TRACKING", "").split(os.pathsep) if folder]
    if missing := [folder for folder in named if not folder.is_dir()]:
        raise SystemExit(f"POSEWIRE_TRACKING names {missing[0]}, which is not a folder")
    folders = [found for folder in (SHARED / "data/tracking", *named) for found in _sequences_in(folder)]
    return [*([_read_posetrack()] if posetrack.pictures() else []), *(read_mot(folder) for folder in folders)]


def _sequences_in(folder: Path) -> list[Path]:
    """The folder itself, or those of its folders that are sequences."""
    if _truth_file(folder) is not None:
        return [folder]
    return [] if not folder.is_dir() else [f for f in sorted(folder.iterdir()) if _truth_file(f) is not None]


def _truth_file(folder: Path) -> Path | None:
    return next((file for file in (folder / "gt.txt", folder / "gt/gt.txt") if file.is_file()), None)


def _read_posetrack() -> RealSequence:
    pictures = posetrack.pictures()
    people, _ = asyncio.run(posetrack.find_people(_MODEL, pictures, MIN_SCORE))
    truth = []
    for true, found in zip(posetrack.read_truth(), people, strict=True):
        compared = compare_poses(true, replace(found, ids=np.arange(len(found))))
        truth.append((compared.truth, compared.similarity))
    return RealSequence.of("posetrack", 25.0, pictures, people, truth)


def read_mot(folder: Path) -> RealSequence:
    """Read a sequence in MOT's layout: gt/gt.txt, img1/ and seqinfo.ini, or as in ../shared/data/tracking, whose
    poses.npz spares the network. Without seqinfo.ini, an unknown folder has 25 frames a second. People are compared by
    their boxes."""
    about = ConfigParser()
    about.read(folder / "seqinfo.ini", "utf-8")
    fps = about.getfloat("Sequence", "frameRate", fallback=_RATES.get(folder.name, 25.0))
    images = folder / "img1" if (folder / "img1").is_dir() else folder
    pictures = sorted(path for path in images.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    people = _stored_poses(folder / "poses.npz") if (folder / "poses.npz").is_file() else None
    if people is None:
        people, _ = asyncio.run(posetrack.find_people(_MODEL, pictures, MIN_SCORE))
    file = _truth_file(folder)
    if file is None or len(pictures) != len(people):
        raise SystemExit(f"{folder} is no sequence: it has {len(pictures)} pictures and {len(people)} frames of poses")
    rows = np.loadtxt(file, delimiter=",", ndmin=2)
    wanted = rows[:, 6] != 0
    if rows.shape[1] == _COLUMNS_WITH_CLASS:
        wanted &= rows[:, 7] == _PEDESTRIAN
    rows = rows[wanted]
    truth = []
    for number, found in enumerate(people, 1):
        here = rows[rows[:, 0] == number]
        boxes = np.concatenate([here[:, 2:4], here[:, 2:4] + here[:, 4:6]], axis=1)
        truth.append((here[:, 1].astype(np.int64), iou(boxes, found.boxes.astype(np.float64))))
    return RealSequence.of(folder.name, fps, pictures, people, truth)


def _stored_poses(file: Path) -> list[Poses]:
    with np.load(file) as stored:
        frames, count = stored["frames"], int(stored["count"])
        keypoints, keypoint_scores, boxes, scores = (
            stored[name] for name in ("keypoints", "keypoint_scores", "boxes", "scores")
        )
    people = Poses(keypoints, keypoint_scores, boxes, scores, COCO_17)
    return [people.select((scores >= MIN_SCORE) & (frames == n)) for n in range(count)]
