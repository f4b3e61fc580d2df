"""How much smaller than it is stored a picture may be handed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import cv2

from engines.poses import Frame
from service.imaging.stored import DecodedImage

_SCALES = (8, 4, 2)
"""Only these have vectorised transforms in libjpeg-turbo: decoding at 7/8 .. 5/8 takes longer than at full size."""


def possible_scales(width: int, height: int, needs: tuple[int, int] | None) -> Iterator[int]:
    """By what a picture may shrink and still fill `needs` (width, height) along one side, largest first; at last 1.

    needs: None for every pixel.
    """
    if needs is not None:
        yield from (scale for scale in _SCALES if width // scale >= needs[0] or height // scale >= needs[1])
    yield 1


def reduced(image: DecodedImage, needs: tuple[int, int] | None) -> DecodedImage:
    """The image as small as it may be, each pixel the mean of those it stands for. What is left over at the far edges
    is left out. The image itself where it need not shrink, or was decoded smaller.

    What waits for a network is then small, whatever a client sent: of pictures with 25 megapixels there are as many as
    threads that decode, not as many as requests.
    """
    height, width = image.pixels.shape[:2]
    scale = next(possible_scales(width, height, needs)) if image.scale == 1 else 1
    if scale == 1:
        return image
    across, down = max(1, width // scale), max(1, height // scale)
    whole = image.pixels[: down * scale, : across * scale]
    pixels = cv2.resize(whole, (across, down), interpolation=cv2.INTER_AREA)
    return DecodedImage(cast(Frame, pixels), image.width, image.height, scale)
