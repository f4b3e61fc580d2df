"""WebP: the RIFF container read here, pixels decoded by Pillow's libwebp."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from service.imaging.errors import corrupt, truncated
from service.imaging.orientation import upright
from service.imaging.pillow import load_rgb
from service.imaging.stored import DecodedImage
from service.imaging.tags import read_orientation

_HAS_EXIF = 0x08
_MAX_CHUNKS = 1 << 14
"""Frames of an animation are one chunk each."""


@dataclass(frozen=True, slots=True)
class WebpFile:
    """A WebP file of which the first chunk's header has been read."""

    data: bytes | memoryview
    width: int
    height: int
    has_exif: bool

    @staticmethod
    def matches(data: bytes | memoryview) -> bool:
        """Whether the file begins as a WebP does."""
        return bytes(data[:4]) == b"RIFF" and bytes(data[8:12]) == b"WEBP"

    @staticmethod
    def read(data: bytes | memoryview) -> WebpFile:
        """Read the header. Raises UndecodableImageError where it makes no sense or the file ends before it says."""
        if len(data) < 30:
            raise truncated("WebP", f"it ends after {len(data)} bytes, inside its header")
        kind, flags = bytes(data[12:16]), 0
        if kind == b"VP8X":  # the extended format: 24 bits each, less one
            flags = data[20]
            width = int.from_bytes(data[24:27], "little") + 1
            height = int.from_bytes(data[27:30], "little") + 1
        elif kind == b"VP8L":  # lossless: 14 bits each, less one
            (bits,) = struct.unpack_from("<I", data, 21)
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"VP8 ":  # lossy: 14 bits each, above them an upscaling that decoders ignore
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        else:
            raise corrupt("WebP", "there is no picture in its first chunk")
        return WebpFile(data, width, height, bool(flags & _HAS_EXIF))

    def decode(self, _needs: tuple[int, int] | None, /) -> DecodedImage:
        """See `StoredImage.decode`: always at full size. Of an animation it is the first frame."""
        (size,) = struct.unpack_from("<I", self.data, 4)
        if size + 8 > len(self.data):
            raise truncated("WebP", f"it ends after {len(self.data)} of {size + 8} bytes")
        pixels = load_rgb("WEBP", self.data, self.width, self.height)
        if self.has_exif:
            pixels = upright(pixels, self._orientation())
        return DecodedImage(pixels, pixels.shape[1], pixels.shape[0])

    def _orientation(self) -> int:
        data = memoryview(self.data)
        at = 12
        for _ in range(_MAX_CHUNKS):
            if at + 8 > len(data):
                break
            name, length = struct.unpack_from("<4sI", data, at)
            if name == b"EXIF":
                block = data[at + 8 : at + 8 + length]
                # Some writers put JPEG's prefix before it.
                return read_orientation(block[6:] if bytes(block[:6]) == b"Exif\0\0" else block)
            at += 8 + length + (length & 1)
        return 1
