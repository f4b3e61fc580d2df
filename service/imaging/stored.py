"""What a file format has to offer to `decode`, and what comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engines.poses import Frame


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """An image as it is meant to be seen: upright, RGB, one page.

    pixels: (h, w, 3) uint8 RGB, C-contiguous; not always writable.
    width, height: of the whole image, upright, in its own pixels.
    scale: image pixels per pixel of `pixels`, along both axes: 1, 2, 4 or 8, exactly, from the upper left corner on.
    """

    pixels: Frame
    width: int
    height: int
    scale: int = 1


class StoredImage(Protocol):
    """A file of which only the header has been read."""

    @property
    def width(self) -> int:
        """In pixels, as stored: before any turn that its metadata asks for."""

    @property
    def height(self) -> int:
        """In pixels, as stored."""

    def decode(self, needs: tuple[int, int] | None, /) -> DecodedImage:
        """Decode all of it, at a smaller size where that is cheaper and still fills `needs` (width, height) on a side.

        needs: None for every pixel.

        The array is new. Raises UndecodableImageError where anything is missing or wrong.
        """
