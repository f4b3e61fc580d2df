"""PNG: chunks checked here, pixels decoded by Pillow."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from service.imaging.errors import UndecodableImageError, corrupt, truncated
from service.imaging.orientation import upright
from service.imaging.pillow import load_rgb
from service.imaging.stored import DecodedImage
from service.imaging.tags import read_orientation

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_MAX_CHUNKS = 1 << 14
"""Encoders write 8 kB and more a chunk: this is a file of 128 MB, or an attack on the loop below."""


@dataclass(frozen=True, slots=True)
class PngFile:
    """A PNG file of which the first chunk has been read."""

    data: bytes | memoryview
    width: int
    height: int

    @staticmethod
    def matches(data: bytes | memoryview) -> bool:
        """Whether the file begins as a PNG does."""
        return bytes(data[:8]) == _SIGNATURE

    @staticmethod
    def read(data: bytes | memoryview) -> PngFile:
        """Read the header chunk. Raises UndecodableImageError where it is not there."""
        if len(data) < 33:
            raise truncated("PNG", f"it ends after {len(data)} bytes, inside its header")
        length, name, width, height = struct.unpack_from(">I4sII", data, 8)
        if (length, name) != (13, b"IHDR"):
            raise corrupt("PNG", "it does not begin with its header chunk")
        return PngFile(data, width, height)

    def decode(self, _needs: tuple[int, int] | None, /) -> DecodedImage:
        """See `StoredImage.decode`: always at full size. Of an animation it is the picture that all viewers show."""
        chunks, orientation = _essentials(memoryview(self.data))
        pixels = upright(load_rgb("PNG", chunks, self.width, self.height), orientation)
        return DecodedImage(pixels, pixels.shape[1], pixels.shape[0])


def _essentials(data: memoryview) -> tuple[bytes, int]:
    """The file with only the chunks that make the picture, checksums verified, and its EXIF orientation.

    What is left out (texts, profiles, animation) may be compressed a thousandfold, and Pillow would unpack it.
    """
    kept: list[bytes | memoryview] = [_SIGNATURE]
    orientation = 1
    at = len(_SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(data):
            raise truncated("PNG", f"it ends after {len(data)} bytes, before its last chunk")
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise truncated("PNG", f"it ends after {len(data)} bytes, inside a chunk that goes on to byte {end}")
        if name in _NEEDED:
            if zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
                raise corrupt("PNG", f"the checksum of the chunk at byte {at} is wrong")
            kept.append(data[at:end])
        elif name == b"eXIf":
            orientation = read_orientation(data[at + 8 : end - 4])
        if name == b"IEND":
            return b"".join(kept), orientation
        at = end
    raise UndecodableImageError(f"this PNG has more than {_MAX_CHUNKS} chunks; export it again")
