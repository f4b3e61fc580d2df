"""A decoded image, and how it is reduced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import cv2

from engines.poses import Frame
from service.media.limits import possible_scales


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """An image as it is meant to be seen: upright, RGB, one page.

    pixels: (h, w, 3) uint8 RGB, C-contiguous; not always writable.
    width, height: of the whole image, upright, in its own pixels.
    scale: image pixels per pixel of `pixels`, along both axes: 1, 2, 4 or 8, exactly, from the upper left corner on.
    whole: (height, width, 3) all pixels, to draw on; None unless they were asked for.
    """

    pixels: Frame
    width: int
    height: int
    scale: int = 1
    whole: Frame | None = None


def reduced(image: DecodedImage, needs: tuple[int, int] | None) -> DecodedImage:
    """The image as small as `needs` allows, each pixel the mean of those it stands for.

    Rows and columns at the far edges that do not fill a pixel are left out. The image itself where it cannot be
    reduced, or was decoded at a smaller size.
    """
    height, width = image.pixels.shape[:2]
    scale = next(possible_scales(width, height, needs)) if image.scale == 1 else 1
    if scale == 1:
        return image
    across, down = max(1, width // scale), max(1, height // scale)
    source = image.pixels[: down * scale, : across * scale]
    pixels = cv2.resize(source, (across, down), interpolation=cv2.INTER_AREA)
    return replace(image, pixels=cast(Frame, pixels), scale=scale)
