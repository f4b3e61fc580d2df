"""Encoded pictures with people drawn on them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame, Poses
from service.media.draw import DrawOptions, draw
from service.media.faces import head_circles
from service.media.pixels import encode

_BAND = 64
"""Rows whose colours are divided by their opacity at once, which bounds the memory."""


def draw_picture(frame: Frame, poses: Poses, media_type: str, look: DrawOptions, blurred: Poses | None = None) -> bytes:
    """Draw people on a frame, which is overwritten, and encode it, see `encode`.

    blurred: people whose faces are blurred. Without a background, the picture is a transparent PNG.
    """
    if look.get("background") == "none":
        return encode(_transparent(frame, poses, look), media_type, in_place=True)
    faces = None if blurred is None else head_circles(blurred)
    return encode(draw(frame, poses, **look, faces=faces, in_place=True), media_type, in_place=True)


def _transparent(frame: Frame, poses: Poses, look: DrawOptions) -> NDArray[np.uint8]:
    """Draw people without a background. Returns (h, w, 4) RGBA.

    Drawings on white and on black differ by what shines through.
    """
    frame[:] = 255
    on_white = draw(frame, poses, **look, in_place=True)[..., 1].copy()
    frame[:] = 0
    on_black = draw(frame, poses, **look, in_place=True)
    opacity = 255 - (on_white - on_black[..., 1])
    for top in range(0, len(frame), _BAND):
        band, opaque = on_black[top : top + _BAND], opacity[top : top + _BAND, :, None]
        band[:] = np.minimum(band * (255.0 / np.maximum(opaque, 1)) + 0.5, 255).astype(np.uint8)
    return np.dstack([on_black, opacity])
