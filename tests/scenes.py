"""Rendered sequences of people, with the ground truth and simulated detections.

People are rigid textured shapes that walk in front of a textured wall, so that optical flow can track them.
Everything is seeded: a scene with one seed is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame, Poses
from engines.skeletons import COCO_17
from tests.people import FIGURE

Floats = NDArray[Any]
"""float32; OpenCV names no type."""

Path = Callable[[float], tuple[float, float]]
"""A function from seconds to the middle of a person, in pixels of the wall."""

WIDTH, HEIGHT, FPS = 320, 180, 15.0

_WIDTH_OF_A_PERSON = 0.42
_IN_PICTURE = 0.3
"""Share of a person's keypoints in the frame from which on they count as present."""


@dataclass(frozen=True)
class Person:
    """A person in a scene. height: pixels. present: True while the person is in the scene. Later ones are in front."""

    height: float
    path: Path
    present: Callable[[float], bool] = lambda _: True


@dataclass(frozen=True)
class Detector:
    """The quality of detections. noise: spread of keypoints in OKS sigmas. missed: share of missed people, 0..1.

    ghosts: false people per frame. blind: hidden share of a person from which on they are not detected; 2 for never.
    """

    noise: float = 0.3
    missed: float = 0.0
    ghosts: float = 0.0
    blind: float = 0.7


PERFECT = Detector(noise=0.0, blind=2.0)


@dataclass(frozen=True)
class Plan:
    """A scene. pillars: (left, right) pixels of the wall at which people are hidden. camera: path of the camera.

    skipped: True at times whose frame never arrives.
    """

    people: list[Person]
    seconds: float
    pillars: list[tuple[float, float]] = field(default_factory=list)
    camera: Path = lambda _: (0.0, 0.0)
    skipped: Callable[[float], bool] = lambda _: False
    detector: Detector = field(default_factory=Detector)


@dataclass(frozen=True)
class Step:
    """One frame of a scene.

    truth: all visible people, with true ids from 1 on. seen: the detections. who: (N,) their true ids, 0 for a false
    detection.
    """

    timestamp: float
    frame: Frame
    truth: Poses
    seen: Poses
    who: NDArray[np.int64]


def texture(rng: np.random.Generator, height: int, width: int, coarse: int = 5) -> NDArray[np.float32]:
    """(height, width, 3) noise of several scales, 0..255."""
    total = np.zeros((height, width, 3), np.float32)
    for scale in (2**n for n in range(1, coarse + 1)):
        noise = rng.normal(size=(height // scale + 2, width // scale + 2, 3)).astype(np.float32)
        total += scale**0.5 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return (total - low) / (high - low) * 255  # type: ignore[no-any-return]


def play(plan: Plan, seed: int, *, width: int = WIDTH, height: int = HEIGHT, fps: float = FPS) -> list[Step]:
    """Draw a scene. Keypoints are coco-17."""
    rng = np.random.default_rng(seed)
    wall = texture(rng, height * 2, width * 3)
    pillar = texture(np.random.default_rng([seed, 1]), height * 2, width * 3) if plan.pillars else wall
    figures = [FIGURE * rng.normal(1, 0.05, (1, 2)).astype(np.float32) for _ in plan.people]
    sprites = [_sprite(rng, person.height, figure) for person, figure in zip(plan.people, figures, strict=True)]
    steps = []
    for number in range(round(plan.seconds * fps)):
        now = number / fps
        if plan.skipped(now):
            continue
        camera = np.array(plan.camera(now), np.float32)
        picture = _window(wall, camera, width, height)
        shown: list[NDArray[np.bool_]] = []
        keypoints: list[Floats] = []
        covers: list[Floats] = []
        ids: list[int] = []
        for person, figure, (cloth, mask) in zip(plan.people, figures, sprites, strict=True):
            middle = np.array(person.path(now), np.float32) - camera
            if person.present(now):
                cover = _put(picture, cloth, mask, middle)
                for behind in covers:
                    behind[cover > 0.5] = 0
                covers.append(cover)
                keypoints.append(figure * person.height + middle)
                ids.append(plan.people.index(person) + 1)
        for left, right in plan.pillars:
            a, b = (int(np.clip(x - camera[0], 0, width)) for x in (left, right))
            picture[:, a:b] = _window(pillar, camera, width, height)[:, a:b]
            for behind in covers:
                behind[:, a:b] = 0
        for points, cover in zip(keypoints, covers, strict=True):
            shown.append(_uncovered(points, cover))
        truth, seen, who = _look(rng, plan.detector, keypoints, shown, ids, width, height)
        steps.append(Step(now, picture.astype(np.uint8), truth, seen, who))
    return steps


def _sprite(rng: np.random.Generator, height: float, figure: Floats) -> tuple[Floats, Floats]:
    """A person's texture (h, w, 3) and mask (h, w) of 0 and 1, both centred on the person."""
    h, w = int(height * 1.1), int(height * _WIDTH_OF_A_PERSON * 1.1)
    cloth = texture(rng, h, w, coarse=4) * rng.uniform(0.5, 1, 3).astype(np.float32)
    mask = np.zeros((h, w), np.uint8)
    points = np.round(figure * height + (w / 2, h / 2)).astype(int)
    thick = max(2, int(height * 0.09))
    for a, b in COCO_17.limbs:
        cv2.line(mask, points[a].tolist(), points[b].tolist(), 1, thick)
    cv2.fillConvexPoly(mask, points[[5, 6, 12, 11]], 1)
    cv2.circle(mask, points[0].tolist(), int(height * 0.08), 1, -1)
    return cloth, mask.astype(np.float32)


def _window(wall: Floats, camera: Floats, width: int, height: int) -> Floats:
    """The part of the wall in the camera's view, with subpixel positions relative to the wall's middle."""
    shift = np.array([[1, 0, -camera[0] - wall.shape[1] / 3], [0, 1, -camera[1] - wall.shape[0] / 4]], np.float32)
    return cv2.warpAffine(wall, shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _put(picture: Floats, cloth: Floats, mask: Floats, middle: Floats) -> Floats:
    """Draw a person into the frame. Returns the person's mask, 0 to 1."""
    height, width = picture.shape[:2]
    corner = middle - (mask.shape[1] / 2, mask.shape[0] / 2)
    left, top = np.floor(corner).astype(int)
    shift = np.array([[1, 0, corner[0] - left], [0, 1, corner[1] - top]], np.float32)
    size = (mask.shape[1] + 1, mask.shape[0] + 1)
    x = slice(max(left, 0), max(min(left + size[0], width), 0))
    y = slice(max(top, 0), max(min(top + size[1], height), 0))
    part = slice(y.start - top, y.stop - top), slice(x.start - left, x.stop - left)
    cover = np.zeros((height, width), np.float32)
    if x.stop > x.start and y.stop > y.start:
        cover[y, x] = cv2.warpAffine(mask, shift, size)[part]
        picture[y, x] += cover[y, x, None] * (cv2.warpAffine(cloth, shift, size)[part] - picture[y, x])
    return cover


def _uncovered(points: Floats, cover: Floats) -> NDArray[np.bool_]:
    """The keypoints inside the frame that nothing occludes."""
    height, width = cover.shape
    x, y = np.round(points).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    near = cv2.dilate(cover, np.ones((5, 5), np.uint8))  # limbs are thin, so a keypoint may lie on the edge
    clear: NDArray[np.bool_] = inside & (near[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)] > 0.5)
    return clear


def _look(
    rng: np.random.Generator,
    detector: Detector,
    keypoints: list[Floats],
    shown: list[NDArray[np.bool_]],
    ids: list[int],
    width: int,
    height: int,
) -> tuple[Poses, Poses, NDArray[np.int64]]:
    """The truth of all visible people, the simulated detections, and their true ids."""
    there = [
        n
        for n, (points, clear) in enumerate(zip(keypoints, shown, strict=True))
        if np.mean((points > 0).all(axis=1) & (points < (width, height)).all(axis=1)) > _IN_PICTURE
        and 1 - clear.mean() < detector.blind
    ]
    truth_points, visible = [keypoints[n] for n in there], [shown[n] for n in there]
    truth_ids = np.array([ids[n] for n in there], np.int64)
    truth = _poses(truth_points, [np.ones(len(points), np.float32) for points in truth_points], truth_ids)
    found, scores, who = [], [], []
    for points, clear, identity in zip(truth_points, visible, truth_ids, strict=True):
        unlucky = rng.uniform() < detector.missed
        size = np.sqrt(np.prod(np.ptp(points, axis=0)))
        spread = COCO_17.sigmas * 2 * size * detector.noise * np.where(clear, 1, 2)
        noise = rng.normal(size=points.shape) * spread[:, None]
        score = np.clip(np.where(clear, 0.9, 0.4) + rng.normal(0, 0.05, len(points)), 0, 1)
        if not unlucky:
            found.append((points + noise).astype(np.float32))
            perfect = detector == PERFECT
            scores.append(np.ones(len(points), np.float32) if perfect else score.astype(np.float32))
            who.append(int(identity))
    for _ in range(rng.poisson(detector.ghosts)):
        tall = rng.uniform(0.2, 0.5) * height
        spot = rng.uniform((0, 0), (width, height))
        found.append((FIGURE * tall + spot + rng.normal(0, tall / 20, FIGURE.shape)).astype(np.float32))
        scores.append(rng.uniform(0.1, 0.5, len(FIGURE)).astype(np.float32))
        who.append(0)
    return truth, _poses(found, scores), np.array(who, np.int64)


def _poses(points: list[Floats], scores: list[Floats], ids: NDArray[np.int64] | None = None) -> Poses:
    if not points:
        return replace(Poses.empty(COCO_17), ids=ids)
    keypoints, keypoint_scores = np.stack(points), np.stack(scores)
    low, high = keypoints.min(axis=1), keypoints.max(axis=1)
    margin = (high - low) * 0.08
    boxes = np.concatenate([low - margin, high + margin], axis=1).astype(np.float32)
    return Poses(keypoints, keypoint_scores, boxes, keypoint_scores.mean(axis=1), COCO_17, ids)
