"""Turning a picture the way its EXIF orientation asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import cv2

from engines.poses import Frame

_Turn = Callable[[Frame], object]

# EXIF 2.32, tag 0x0112: where the stored picture's first row and first column are meant to be seen.
_TURNS: dict[int, _Turn] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: lambda pixels: cv2.transpose(pixels),
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.transpose(pixels), -1),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}


def upright(pixels: Frame, orientation: int) -> Frame:
    """`pixels` as they are meant to be seen. orientation: 1..8.

    Copies the pixels once (twice for the rare 7), and not at all for orientation 1.
    """
    turn = _TURNS.get(orientation)
    return pixels if turn is None else cast(Frame, turn(pixels))


def is_sideways(orientation: int) -> bool:
    """Whether width and height change places."""
    return orientation >= 5
