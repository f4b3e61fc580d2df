"""What an image may measure, and how far it may be reduced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.media.errors import ImageTooLargeError, UndecodableImageError, corrupt

_SCALES = (8, 4, 2)
"""Only these have vectorised transforms in libjpeg-turbo: decoding at 7/8 .. 5/8 takes longer than at full size."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before anything is decoded. max_side: the longer side, in pixels."""

    max_bytes: int = 20_000_000
    max_pixels: int = 25_000_000
    max_side: int = 16_384

    def check_bytes(self, size: int) -> None:
        """Raise UndecodableImageError for an empty file and ImageTooLargeError for one with too many bytes."""
        if not size:
            raise UndecodableImageError("there is no image: the body is empty; send the bytes of an image file")
        if size > self.max_bytes:
            raise ImageTooLargeError(
                f"the image has {size:,} bytes, at most {self.max_bytes:,} are accepted; send it smaller"
            )

    def check_size(self, width: int, height: int) -> None:
        """Raise UndecodableImageError for a picture without pixels and ImageTooLargeError for one with too many."""
        if width < 1 or height < 1:
            raise corrupt("image", f"its header says {width} x {height} pixels")
        if width * height > self.max_pixels or max(width, height) > self.max_side:
            raise ImageTooLargeError(
                f"the image has {width:,} x {height:,} pixels, at most {self.max_pixels:,} in all and "
                f"{self.max_side:,} a side are accepted; send it smaller"
            )


def possible_scales(width: int, height: int, needs: tuple[int, int] | None) -> Iterator[int]:
    """Factors by which a picture can be reduced and still fill `needs` (width, height) along one side.

    Largest first; the last one is 1. needs: None for every pixel.
    """
    if needs is not None:
        yield from (scale for scale in _SCALES if width // scale >= needs[0] or height // scale >= needs[1])
    yield 1
