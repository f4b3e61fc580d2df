"""Real people cut out of real pictures, with their poses: those of the tracking sequences, and single ones of COCO."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from engines.ops.nms import iou
from engines.poses import Floats, Frame
from engines.skeletons import COCO_17
from tests.benchmarks import posetrack
from tests.benchmarks.tracking.sequences import RealSequence, read_mot, read_picture
from tests.shared import SHARED

_CLEAR = 0.3
"""Keypoints from this score on are part of the outline."""
_WHOLE = 12
"""Keypoints that a picture of a person needs."""
_APART = 0.15
"""The most overlap with other people's boxes."""
_THICKNESS = 0.09
"""Half the width of a limb, in heights of the person."""
_FEWEST = 8
"""Pictures of somebody in a sequence."""
_LEAST_HEIGHT = 80
_MOST_COVERED = 0.06
"""The largest share of a background that people may cover."""
_COCO = SHARED / "data/coco"


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A picture of a person. pixels: (H, W, 3) uint8. mask: (H, W) uint8, 255 inside. points: (17, 3) float32 x, y in
    the picture and score.
    """

    pixels: Frame
    mask: NDArray[np.uint8]
    points: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Performer:
    """A real person. looks: in the order of time, one or many. steps: (L, 2) how far the person moved to each of them,
    in heights. heading: 1 if the person goes to the right in the pictures, -1 to the left.
    """

    name: str
    looks: Sequence[Look]
    steps: Floats
    fps: float
    heading: int = 1


def sequences() -> list[RealSequence]:
    """The sequences whose poses are stored."""
    return [read_mot(folder) for folder in sorted((SHARED / "data/tracking").glob("*/"))]


def tracked_performers() -> list[Performer]:
    """Everybody of the sequences who can be seen well in several frames."""
    people = [performer for sequence in sequences() for performer in _of_sequence(sequence)]
    return [*people, *_of_posetrack()]


def _of_sequence(sequence: RealSequence) -> Iterator[Performer]:
    everybody = sorted({int(number) for ids in sequence.truth for number in ids})
    pictures = [sequence.picture(n) for n in range(len(sequence))]
    for person in everybody:
        looks: list[Look] = []
        middles: list[Floats] = []
        for n, ids in enumerate(sequence.truth):
            row = next((int(sequence.found[n][g]) for g in np.flatnonzero(ids == person)), -1)
            poses = sequence.people[n]
            if row >= 0 and _apart(poses.boxes, row):
                points = np.concatenate([poses.keypoints[row], poses.keypoint_scores[row][:, None]], axis=1)
                if (look := _cut(pictures[n], points, None)) is not None:
                    looks.append(look)
                    middles.append(np.append(points[:, :2].mean(axis=0), len(look.pixels)))
        if len(looks) >= _FEWEST:
            yield _performer(f"{sequence.name} {person}", looks, middles, sequence.fps)


def _of_posetrack() -> Iterator[Performer]:
    truth = [poses.as_skeleton(COCO_17) for poses in posetrack.read_truth()] if posetrack.pictures() else []
    pictures = [read_picture(path) for path in posetrack.pictures()]
    everybody = sorted({int(number) for poses in truth for number in (poses.ids if poses.ids is not None else ())})
    for person in everybody:
        looks: list[Look] = []
        middles: list[Floats] = []
        for picture, poses in zip(pictures, truth, strict=True):
            for row in np.flatnonzero(poses.ids == person).tolist():
                points = np.concatenate([poses.keypoints[row], poses.keypoint_scores[row][:, None]], axis=1)
                if _apart(poses.boxes, row) and (look := _cut(picture, points, None)) is not None:
                    looks.append(look)
                    middles.append(np.append(points[points[:, 2] > 0, :2].mean(axis=0), len(look.pixels)))
        if len(looks) >= _FEWEST:
            yield _performer(f"posetrack {person}", looks, middles, 25.0)


def _performer(name: str, looks: list[Look], middles: list[Floats], fps: float) -> Performer:
    places = np.array(middles, np.float32)
    steps = np.diff(places[:, :2], axis=0, prepend=places[:1, :2]) / places[:, 2:]
    return Performer(name, looks, np.clip(steps, -0.2, 0.2), fps, 1 if places[-1, 0] >= places[0, 0] else -1)


def coco_performers() -> list[Performer]:
    """People of COCO whose body is annotated as a whole, with one picture each."""
    document = json.loads((_COCO / "person_keypoints.json").read_text("utf-8"))
    files = {image["id"]: image["file_name"] for image in document["images"]}
    people = []
    for person in document["annotations"]:
        points = np.array(person["keypoints"], np.float32).reshape(-1, 3)
        points[:, 2] = (points[:, 2] > 0) * (0.5 + 0.2 * points[:, 2])
        if person["iscrowd"] or person["num_keypoints"] < _WHOLE or not _stands(points):
            continue
        look = _cut(read_picture(_COCO / files[person["image_id"]]), points, person["segmentation"])
        if look is not None:
            people.append(Performer(f"coco {person['id']}", [look], np.zeros((1, 2), np.float32), 25.0))
    return people


def _stands(points: Floats) -> bool:
    """Whether shoulders, hips and ankles are there, one above the other."""
    parts = [points[[a, b]] for a, b in ((5, 6), (11, 12), (15, 16))]
    if not all((part[:, 2] > 0).any() for part in parts):
        return False
    shoulders, hips, ankles = (part[part[:, 2] > 0, 1].mean() for part in parts)
    return bool(shoulders < hips < ankles and ankles - hips > 0.6 * (hips - shoulders))


def backgrounds() -> list[Frame]:
    """The places of the sequences without their people, and the photos of COCO with hardly any."""
    empty = [
        np.median([sequence.picture(n) for n in range(0, len(sequence), 4)], axis=0).astype(np.uint8)
        for sequence in sequences()
    ]
    document = json.loads((_COCO / "person_keypoints.json").read_text("utf-8"))
    for image in document["images"]:
        covered = sum(person["area"] for person in document["annotations"] if person["image_id"] == image["id"])
        if covered < _MOST_COVERED * image["width"] * image["height"] and image["width"] > image["height"]:
            empty.append(read_picture(_COCO / image["file_name"]))
    return empty


def _apart(boxes: Floats, row: int) -> bool:
    overlap = iou(boxes[row : row + 1], boxes)[0]
    overlap[row] = 0
    return bool(overlap.max(initial=0) <= _APART)


def _cut(picture: Frame, points: Floats, outline: list[list[float]] | None) -> Look | None:
    """Cut out a person, along the outline or, without one, along the limbs. None if little of the person is there."""
    clear = points[:, 2] >= _CLEAR
    if clear.sum() < _WHOLE:
        return None
    low, high = points[clear, :2].min(axis=0), points[clear, :2].max(axis=0)
    tall = float(high[1] - low[1])
    x0, y0 = np.maximum(low - 0.2 * tall, 0).astype(int)
    x1, y1 = np.minimum(high + 0.2 * tall, [picture.shape[1], picture.shape[0]]).astype(int)
    if tall < _LEAST_HEIGHT * 0.8 or y1 - y0 < _LEAST_HEIGHT:
        return None
    mask = Image.new("L", (int(x1 - x0), int(y1 - y0)))
    pen = ImageDraw.Draw(mask)
    if outline is not None:
        for polygon in outline:
            pen.polygon([(x - x0, y - y0) for x, y in zip(polygon[::2], polygon[1::2], strict=True)], fill=255)
    else:
        _draw_limbs(pen, points[:, :2] - [x0, y0], clear, tall)
    moved = points.astype(np.float32).copy()
    moved[:, :2] -= [x0, y0]
    return Look(picture[y0:y1, x0:x1].copy(), np.asarray(mask), moved)


def _draw_limbs(pen: ImageDraw.ImageDraw, points: Floats, clear: NDArray[np.bool_], tall: float) -> None:
    width = max(3, round(2 * _THICKNESS * tall * 0.6))
    body = [n for n in (5, 6, 12, 11) if clear[n]]
    if len(body) > 2:
        pen.polygon([tuple(points[n]) for n in body], fill=255, outline=255, width=width // 2)
    for a, b in COCO_17.limbs:
        if clear[a] and clear[b]:
            pen.line([tuple(points[a]), tuple(points[b])], fill=255, width=width)
    for x, y in points[clear]:
        pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=255)
    head = points[:5][clear[:5]]
    if len(head):
        x, y = head.mean(axis=0)
        pen.ellipse([x - 0.07 * tall, y - 0.1 * tall, x + 0.07 * tall, y + 0.08 * tall], fill=255)
