"""BMP: header read here, pixels decoded by Pillow."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from service.imaging.errors import UndecodableImageError, corrupt, truncated
from service.imaging.pillow import load_rgb
from service.imaging.stored import DecodedImage

_OS2_HEADER = 12
_UNPACKED, _BIT_FIELDS, _ALPHA_BIT_FIELDS = 0, 3, 6


@dataclass(frozen=True, slots=True)
class BmpFile:
    """A BMP file of which the header has been read."""

    data: bytes | memoryview
    width: int
    height: int

    @staticmethod
    def matches(data: bytes | memoryview) -> bool:
        """Whether the file begins as a BMP does."""
        return bytes(data[:2]) == b"BM"

    @staticmethod
    def read(data: bytes | memoryview) -> BmpFile:
        """Read the header. Raises UndecodableImageError where it is cut off, and for run-length coded pixels.

        Pillow decodes those in Python, at seconds of one core per megabyte.
        """
        try:
            (header,) = struct.unpack_from("<I", data, 14)
            if header == _OS2_HEADER:
                width, height = struct.unpack_from("<HH", data, 18)
                return BmpFile(data, width, height)
            width, height, _, bits, compression, _, _, _, colours = struct.unpack_from("<iiHHIIiiI", data, 18)
        except struct.error:
            raise truncated("BMP", f"it ends after {len(data)} bytes, inside its header") from None
        if compression not in (_UNPACKED, _BIT_FIELDS, _ALPHA_BIT_FIELDS):
            raise UndecodableImageError(f"a BMP of compression {compression} is not accepted; save it as PNG")
        if bits <= 8 and colours > 1 << bits:  # Pillow would read up to 65,536, one by one
            raise corrupt("BMP", f"it has {colours} colours at {bits} bits a pixel")
        return BmpFile(data, width, abs(height))  # a negative height: rows are stored from the top

    def decode(self, _needs: tuple[int, int] | None, /) -> DecodedImage:
        """See `StoredImage.decode`: always at full size."""
        return DecodedImage(load_rgb("BMP", self.data, self.width, self.height), self.width, self.height)
