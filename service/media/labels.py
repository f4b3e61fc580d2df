"""Labels: short texts on dark chips beside people."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ImageFont

from engines.poses import Frame, Poses
from service.media.palette import Colour, Colouring, palette_of

_CHIP: Colour = (18, 18, 22)
_TEXT: Colour = (255, 255, 255)
_TRIES = 4
"""How often a label moves down to leave another one free."""

_Box = tuple[int, int, int, int]


def draw_labels(canvas: Frame, poses: Poses, colouring: Colouring, *, ids: bool, scores: bool) -> None:
    """Write the id of each person, or without ids their place in `poses` from 0, and the score.

    A label stands above the box, inside the frame, and moves down if another label is there.
    """
    size = round(float(np.clip(min(canvas.shape[:2]) / 42, 11, 48)))
    placed: list[_Box] = []
    for n in range(len(poses)):
        number = f"#{n if poses.ids is None else poses.ids[n]}"
        text = f"{number}  {poses.scores[n]:.2f}" if ids and scores else number if ids else f"{poses.scores[n]:.2f}"
        if ids and poses.ids is not None and poses.ids[n] < 0:  # not confirmed yet
            text = f"{poses.scores[n]:.2f}" if scores else ""
        if text:
            left, top = np.nan_to_num(poses.boxes[n, :2], posinf=0.0, neginf=0.0).tolist()
            placed.append(_draw(canvas, text, left, top, palette_of(poses, n, colouring).middle, size, placed))


def _draw(canvas: Frame, text: str, left: float, top: float, colour: Colour, size: int, placed: list[_Box]) -> _Box:
    height, width = canvas.shape[:2]
    letters = _letters(text, size)
    pad, bar = max(2, size // 4), max(3, size // 4)
    across, down = letters.shape[1] + 2 * pad + bar, letters.shape[0] + 2 * pad
    x = int(np.clip(left, 0, max(0, width - across)))
    y = int(np.clip(top - down, 0, max(0, height - down)))
    for _ in range(_TRIES):
        if not any(x < r and x + across > l and y < b and y + down > t for l, t, r, b in placed):  # noqa: E741
            break
        y = min(y + down + 1, max(0, height - down))
    chip = canvas[y : y + down, x : x + across]
    chip[:] = _CHIP
    chip[:, :bar] = colour
    room = chip[pad : pad + letters.shape[0], bar + pad : bar + pad + letters.shape[1]]
    ink = letters[: room.shape[0], : room.shape[1]]
    room[:] = cv2.max(room, ink) if room.size else room
    return x, y, x + across, y + down


@lru_cache(1024)
def _letters(text: str, size: int) -> NDArray[np.uint8]:
    """White text on black, (h, w, 3), with the font that Pillow includes."""
    mask, _ = _font(size).getmask2(text, mode="L")
    grey = np.array(mask, np.uint8).reshape(mask.size[::-1])
    return np.repeat(grey[..., None], 3, axis=2)


@lru_cache(64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # noqa: S101 - Pillow's wheels include FreeType
    return font
