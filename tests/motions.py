"""Motions of people, made from standing skeletons: falls, sitting and lying down, bending, squats and walking.

A skeleton is lifted to three dimensions as a flat figure that stands on the ground, moved there, and seen by a camera
that may look down on it. So arms and legs keep their lengths in space, and look shorter when they point to the camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Poses
from engines.skeletons import COCO_17

WIDTH, HEIGHT = 1280, 720
_NAMES = COCO_17.keypoints
_UPPER = np.array([n for n, name in enumerate(_NAMES) if not name.endswith(("hip", "knee", "ankle"))])
_HIPS, _KNEES, _ANKLES = (
    np.array([_NAMES.index(f"{side}_{part}") for side in ("left", "right")]) for part in ("hip", "knee", "ankle")
)
_SHOULDERS = np.array([_NAMES.index("left_shoulder"), _NAMES.index("right_shoulder")])

Motion = Callable[[Doubles, float], Doubles]
"""Moves a figure (17, 3) to where it is at a time in seconds. x is to the right, y down from the ground, z away."""

_TEMPLATE = (
    (0, -1.72), (-0.03, -1.76), (0.03, -1.76), (-0.08, -1.74), (0.08, -1.74), (0.19, -1.45), (-0.19, -1.45),
    (0.23, -1.17), (-0.23, -1.17), (0.24, -0.92), (-0.24, -0.92), (0.11, -0.92), (-0.11, -0.92), (0.12, -0.48),
    (-0.12, -0.48), (0.13, -0.06), (-0.13, -0.06),
)  # fmt: skip


def figure(keypoints: Doubles | None = None, scores: Doubles | None = None) -> Doubles:
    """Return a standing skeleton (17, 2) as a flat figure (17, 3) on the ground, with a height of 1.7; NaN for unseen.

    Without one, an invented person.
    """
    points = np.array(_TEMPLATE) if keypoints is None else np.array(keypoints, np.float64)
    if scores is not None:
        points = np.where(scores[:, None] > 0, points, np.nan)
    points = points - [np.nanmean(points[_ANKLES, 0]), np.nanmax(points[_ANKLES, 1])]
    torso = np.linalg.norm(points[_SHOULDERS].mean(axis=0) - points[_HIPS].mean(axis=0))
    points *= 0.53 / torso
    points[:, 1] -= 0.06
    return np.column_stack([points, np.zeros(len(points))])


@dataclass(frozen=True)
class Shooting:
    """How a motion is filmed. pitch: degrees that the camera looks down. zoom: pixels a metre. noise: standard
    deviation of keypoints, in torso lengths. missing: the share of keypoints that are not seen, for a few frames each.
    """

    fps: float = 15.0
    pitch: float = 15.0
    zoom: float = 180.0
    noise: float = 0.03
    missing: float = 0.05

    def film(
        self, body: Doubles, motion: Motion, seconds: float, rng: np.random.Generator
    ) -> list[tuple[float, Poses]]:
        """Return the frames of a motion with their times. The person has the id 1."""
        times = np.arange(0, seconds, 1 / self.fps)
        gone = np.zeros(len(body), int)
        frames = []
        for time in times:
            gone = np.where(gone > 0, gone - 1, np.where(rng.random(len(body)) < self.missing / 3, 3, 0))
            frames.append((float(time), self.seen(motion(body, float(time)), gone > 0, rng)))
        return frames

    def seen(self, points: Doubles, hidden: NDArray[np.bool_], rng: np.random.Generator) -> Poses:
        """Project points (17, 3)."""
        down = np.radians(self.pitch)
        picture = np.column_stack([points[:, 0], points[:, 1] * np.cos(down) - points[:, 2] * np.sin(down)])
        picture = picture * self.zoom + rng.normal(0, self.noise * 0.53 * self.zoom, picture.shape)
        picture += [WIDTH / 2, HEIGHT * 0.8]
        unseen = np.isnan(picture[:, 0]) | hidden
        known = picture[~np.isnan(picture[:, 0])]
        box = np.concatenate([known.min(axis=0) - 8, known.max(axis=0) + 8])
        scores = np.where(unseen, 0.1, rng.uniform(0.5, 0.95, len(points)))
        return Poses(
            np.nan_to_num(picture, nan=0.0).astype(np.float32)[None],
            scores.astype(np.float32)[None],
            box.astype(np.float32)[None],
            np.array([0.9], np.float32),
            COCO_17,
            np.array([1], np.int64),
        )


def together(frames: Sequence[Poses]) -> Poses:
    """Put the people of several frames into one, with the ids 1, 2, ..."""
    return replace(Poses.join(frames), ids=np.arange(1, len(frames) + 1))


def posetrack_people(truth: dict[str, Any], frame: dict[str, Any]) -> Poses:
    """The people of a frame of ../shared/data/posetrack, with their ids from 1 on."""
    names = {int(number): name for number, name in truth["joint_ids"].items()}
    points = np.zeros((len(frame["persons"]), len(_NAMES), 3), np.float32)
    for person, row in zip(frame["persons"], points, strict=True):
        for point in person["points"]:
            if names[point["id"]] in _NAMES:
                row[_NAMES.index(names[point["id"]])] = point["x"], point["y"], point["is_visible"]
    seen = np.where(points[..., 2:] > 0, points[..., :2], np.nan)
    boxes = np.concatenate([np.nanmin(seen, axis=1), np.nanmax(seen, axis=1)], axis=1)
    ids = np.array([1 + person["track_id"] for person in frame["persons"]], np.int64)
    return Poses(points[..., :2], points[..., 2], boxes, np.ones(len(ids), np.float32), COCO_17, ids)


def stand(body: Doubles, time: float) -> Doubles:
    """A person who stands."""
    return np.asarray(body + np.array([0.01 * np.sin(2 * time), 0, 0]))


def topple(start: float, seconds: float, towards: float, angle: float = 88.0) -> Motion:
    """Fall, or lie down, as a stick about the feet, faster and faster. towards: degrees, 0 to the right, 90 away."""

    def motion(body: Doubles, time: float) -> Doubles:
        share = np.clip((time - start) / seconds, 0, 1)
        return _rotate(body, np.zeros(3), towards, angle * np.sinh(3 * share) / np.sinh(3))

    return motion


def lie_slowly(start: float, seconds: float, towards: float) -> Motion:
    """Lie down evenly, as a stick about the feet."""

    def motion(body: Doubles, time: float) -> Doubles:
        return _rotate(body, np.zeros(3), towards, 88 * _ease((time - start) / seconds))

    return motion


def crumple(start: float, seconds: float, towards: float, *, rest: float = 0.0) -> Motion:
    """The knees give way, and the trunk turns to the ground. rest: seconds of sitting on the ground before it turns."""

    def motion(body: Doubles, time: float) -> Doubles:
        down = _ease((time - start) / (0.6 * seconds))
        over = _ease((time - start - 0.4 * seconds - rest) / (0.6 * seconds))
        length = -np.nanmean(body[_HIPS, 1])
        moved = _squat(body, down * 0.85 * length, towards, back=0.45 * length * down)
        hips = np.nanmean(moved[_HIPS], axis=0)
        trunk = np.concatenate([_UPPER, _HIPS])
        moved[trunk] = _rotate(moved[trunk], hips, towards + 180, 82 * over)
        return moved

    return motion


def sit(start: float, seconds: float, towards: float) -> Motion:
    """Sit down on a chair, facing `towards`, with the trunk forward on the way."""

    def motion(body: Doubles, time: float) -> Doubles:
        share = _ease((time - start) / seconds)
        thigh = np.nanmean(np.linalg.norm(body[_HIPS] - body[_KNEES], axis=1))
        moved = _squat(body, 0.9 * thigh * share, towards, back=0.85 * thigh * share)
        hips = np.nanmean(moved[_HIPS], axis=0)
        moved[_UPPER] = _rotate(moved[_UPPER], hips, towards, 35 * np.sin(np.pi * share))
        return moved

    return motion


def bend(start: float, seconds: float, towards: float, angle: float, hold: float = 1.0) -> Motion:
    """Bend forward to the ground, and rise again."""

    def motion(body: Doubles, time: float) -> Doubles:
        share = _ease((time - start) / seconds) - _ease((time - start - seconds - hold) / seconds)
        moved = body.copy()
        moved[_UPPER] = _rotate(moved[_UPPER], np.nanmean(body[_HIPS], axis=0), towards, angle * share)
        return moved

    return motion


def squats(start: float, seconds: float, towards: float, count: int, depth: float = 0.75) -> Motion:
    """Go down and up again `count` times, each in `seconds`. depth: of the thighs' length."""

    def motion(body: Doubles, time: float) -> Doubles:
        phase = np.clip((time - start) / seconds, 0, count)
        share = (1 - np.cos(2 * np.pi * phase)) / 2
        thigh = np.nanmean(np.linalg.norm(body[_HIPS] - body[_KNEES], axis=1))
        return _squat(body, depth * thigh * share, towards, back=0.45 * thigh * share)

    return motion


def crouch(start: float, seconds: float, towards: float) -> Motion:
    """Crouch down, with the trunk forward, and stay there."""

    def motion(body: Doubles, time: float) -> Doubles:
        share = _ease((time - start) / seconds)
        length = -np.nanmean(body[_HIPS, 1])
        moved = _squat(body, 0.75 * length * share, towards, back=0.3 * length * share)
        moved[_UPPER] = _rotate(moved[_UPPER], np.nanmean(moved[_HIPS], axis=0), towards, 50 * share)
        return moved

    return motion


def walk(speed: float, towards: float) -> Motion:
    """Walk with `speed` metres a second."""

    def motion(body: Doubles, time: float) -> Doubles:
        moved = body.copy()
        swing = np.sin(2 * np.pi * time / 1.1)
        for side in (0, 1):
            leg = np.array([_KNEES[side], _ANKLES[side]])
            moved[leg] = _rotate(moved[leg], moved[_HIPS[side]], towards, 25 * swing * (1 - 2 * side))
        moved += _along(towards) * speed * time
        return moved

    return motion


def _ease(share: float) -> float:
    """From 0 to 1 with a smooth start and end."""
    share = float(np.clip(share, 0, 1))
    return share * share * (3 - 2 * share)


def _along(towards: float) -> Doubles:
    return np.array([np.cos(np.radians(towards)), 0.0, np.sin(np.radians(towards))])


def _rotate(points: Doubles, about: Doubles, towards: float, angle: float) -> Doubles:
    """Turn points over in a direction on the ground, by Rodrigues' formula."""
    axis = np.cross(_along(towards), [0.0, 1.0, 0.0])
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    v = points - about
    turned = v * cos + np.cross(axis, v) * sin + axis * (v @ axis)[:, None] * (1 - cos)
    return np.asarray(about + turned)


def _squat(body: Doubles, down: float, towards: float, back: float) -> Doubles:
    """Move everything above the knees down and back. The knees go forward, so that the legs keep their lengths."""
    moved = body.copy()
    upper = np.concatenate([_UPPER, _HIPS])
    moved[upper] += np.array([0, down, 0]) - back * _along(towards)
    for hip, knee, ankle in zip(_HIPS, _KNEES, _ANKLES, strict=True):
        thigh, shank = np.linalg.norm(body[hip] - body[knee]), np.linalg.norm(body[knee] - body[ankle])
        line = moved[hip] - body[ankle]
        length = np.clip(np.linalg.norm(line), abs(thigh - shank) + 1e-6, thigh + shank - 1e-9)
        share = (shank**2 - thigh**2 + length**2) / (2 * length)
        line = line / np.linalg.norm(line)
        out = _along(towards) - line * (_along(towards) @ line)
        out /= max(float(np.linalg.norm(out)), 1e-9)
        moved[knee] = body[ankle] + line * share + out * np.sqrt(max(shank**2 - share**2, 0.0))
    return moved
