"""Decoded pixels: turning them upright, reducing them and encoding them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import cv2
import simplejpeg

from engines.poses import Frame
from service.media.image_files import possible_scales


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """A decoded image: upright, RGB, first page only.

    pixels: (h, w, 3) uint8 RGB, C-contiguous, not always writable.
    width, height: of the upright image at full size.
    scale: exact reduction of `pixels` along both axes, measured from the upper left corner: 1, 2, 4 or 8.
    whole: (height, width, 3) pixels at full size, for drawing; None unless requested.
    """

    pixels: Frame
    width: int
    height: int
    scale: int = 1
    whole: Frame | None = None


def reduced(image: DecodedImage, needs: tuple[int, int] | None) -> DecodedImage:
    """Reduce an image as far as `needs` allows. Each pixel is the mean of the pixels that it replaces.

    Rows and columns at the right and bottom that do not fill a pixel are left out. Returns the image itself if it
    cannot be reduced or was already reduced while decoding.
    """
    height, width = image.pixels.shape[:2]
    scale = next(possible_scales(width, height, needs)) if image.scale == 1 else 1
    if scale == 1:
        return image
    across, down = max(1, width // scale), max(1, height // scale)
    source = image.pixels[: down * scale, : across * scale]
    pixels = cv2.resize(source, (across, down), interpolation=cv2.INTER_AREA)
    return replace(image, pixels=cast(Frame, pixels), scale=scale)


_Turn = Callable[[Frame], object]

# EXIF 2.32, tag 0x0112: on which sides the stored image's first row and first column are displayed.
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
    """Turn and mirror `pixels` as their EXIF orientation, 1..8, requires.

    Copies the pixels once (twice for the rare 7), and not at all for orientation 1.
    """
    turn = _TURNS.get(orientation)
    return pixels if turn is None else cast(Frame, turn(pixels))


def is_sideways(orientation: int) -> bool:
    """True if the orientation swaps width and height."""
    return orientation >= 5


MEDIA_TYPES = ("image/jpeg", "image/png")


def encode(pixels: Frame, media_type: str, *, quality: int = 90, in_place: bool = False) -> bytes:
    """Encode pixels as a file of `media_type`. pixels: (h, w, 3) uint8 RGB, or for PNG (h, w, 4) RGBA. quality: 1..100,
    for JPEG.
    in_place: `pixels` may be overwritten, which saves a copy.

    Raises ValueError for a type that is not in MEDIA_TYPES.
    """
    if media_type == "image/jpeg":
        data: bytes = simplejpeg.encode_jpeg(pixels, quality, "RGB", "420")
        return data
    if media_type == "image/png":
        order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        bgr = cv2.cvtColor(pixels, order, dst=pixels if in_place else None)
        # Level 1 gives 10 % larger files than the default in a third of the time.
        _, buffer = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        return buffer.tobytes()
    raise ValueError(f"cannot write {media_type!r}, only {' and '.join(MEDIA_TYPES)}")
