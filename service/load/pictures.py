"""The pictures to send: the user's, or one that is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from service.media.pixels import encode

MEDIA_TYPES_BY_SUFFIX: Mapping[str, str] = MappingProxyType(
    {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
)

_WIDTH, _HEIGHT = 640, 480
_SKIN = (224, 172, 140)
_LIMBS = (  # from, to, width, in heights of a person from the middle of the body; then what it is part of
    ((0.0, -0.3), (0.0, 0.02), 0.17, "shirt"), ((0.09, -0.29), (0.15, -0.13), 0.055, "shirt"),
    ((-0.09, -0.29), (-0.15, -0.13), 0.055, "shirt"), ((0.15, -0.13), (0.15, 0.02), 0.045, "skin"),
    ((-0.15, -0.13), (-0.15, 0.02), 0.045, "skin"), ((0.05, 0.02), (0.06, 0.46), 0.075, "trousers"),
    ((-0.05, 0.02), (-0.06, 0.46), 0.075, "trousers"), ((0.0, -0.36), (0.0, -0.3), 0.06, "skin"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded image to send."""

    data: bytes
    media_type: str = "image/jpeg"


def drawn_picture() -> Picture:
    """A JPEG of 640 x 480 pixels with three drawn people, which compresses like a photograph."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(70, 190, (6, 8, 3)).astype(np.uint8)
    canvas = cv2.resize(coarse, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_CUBIC)
    for x, height, shirt in ((130, 400, (190, 60, 50)), (330, 340, (50, 90, 180)), (530, 420, (60, 140, 80))):
        _draw_person(canvas, x, height, {"shirt": shirt, "trousers": (45, 45, 60), "skin": _SKIN})
    grain = rng.normal(0, 6, (_HEIGHT, _WIDTH, 1))
    return Picture(encode((cv2.GaussianBlur(canvas, (5, 5), 0) + grain).clip(0, 255).astype(np.uint8), "image/jpeg"))


def _draw_person(canvas: np.ndarray, x: int, height: int, colours: Mapping[str, tuple[int, int, int]]) -> None:
    def place(point: tuple[float, float]) -> tuple[int, int]:
        return round(x + height * point[0]), round(_HEIGHT / 2 + height * point[1])

    for start, end, width, part in _LIMBS:
        cv2.line(canvas, place(start), place(end), colours[part], round(height * width), cv2.LINE_AA)
    cv2.ellipse(canvas, place((0, -0.42)), (round(0.055 * height), round(0.075 * height)), 0, 0, 360, _SKIN, -1)
    cv2.ellipse(
        canvas, place((0, -0.455)), (round(0.058 * height), round(0.05 * height)), 0, 180, 360, (50, 35, 25), -1
    )
    for side in (-0.02, 0.02):
        cv2.circle(canvas, place((side, -0.43)), round(0.008 * height), (30, 25, 25), -1, cv2.LINE_AA)
