"""JPEG, by libjpeg-turbo."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import cast

import simplejpeg

from engines.poses import Frame
from service.media.decoded import DecodedImage, reduced
from service.media.errors import ImageError, UndecodableImageError, corrupt, truncated
from service.media.exif import read_orientation
from service.media.limits import ImageLimits, possible_scales
from service.media.orientation import is_sideways, upright

_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_USUAL = frozenset({0xC0, 0xC1, 0xC2})  # Huffman-coded: baseline, extended and progressive
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_EXIF, _SCAN, _END = 0xE1, 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SCAN_MARKER = re.compile(rb"\xff\xda")
_END_MARKER = re.compile(rb"\xff\xd9")

# Encoders write a few dozen segments and at most some 20 scans. Each costs work that the size of the picture does not
# bound: a scan of a few bytes makes the decoder visit every block.
_MAX_SEGMENTS = 1024
_MAX_SCANS = 50
_MAX_BLOCKS = 4
"""Of EXIF metadata; the first that gives an orientation counts."""
_MAX_STRAY_BYTES = 1 << 16
"""Between segments, in all. Webcams write some hundred; the search for the next marker has to end."""

_QUICK_BYTES, _QUICK_PIXELS = 500_000, 1_000_000
_LIGHT_PIXELS = 4_000_000
"""Of a picture in several scans: libjpeg keeps all coefficients of it, 6 bytes a pixel, and visits them in each."""


class UnusualJpegError(ImageError):
    """A JPEG that TurboJPEG does not take; Pillow's libjpeg may."""


@dataclass(frozen=True, slots=True)
class JpegFile:
    """A JPEG file whose segments before the first scan have been read.

    width, height: in pixels, as stored: before any turn that the metadata asks for. light: decoding takes little
    memory beside the pixels, and a bounded time. strays: where bytes lie between segments, (start, stop).
    """

    data: bytes | memoryview
    width: int
    height: int
    orientation: int
    scan: int
    has_many_scans: bool
    light: bool
    strays: tuple[tuple[int, int], ...] = ()

    @staticmethod
    def read(data: bytes | memoryview, limits: ImageLimits) -> JpegFile:
        """Read the header; takes at most some 2 ms, whatever the bytes are.

        Raises UndecodableImageError where the header is cut off or makes no sense, and as Limits.check_size.
        """
        try:
            file = _read(data)
        except (IndexError, struct.error):
            raise truncated("JPEG", f"it ends after {len(data)} bytes, inside its header") from None
        limits.check_size(file.width, file.height)
        return file

    @property
    def quick(self) -> bool:
        """Whether decoding takes at most some 2 ms of one core, or 10 for a hostile file."""
        small = len(self.data) <= _QUICK_BYTES and self.width * self.height <= _QUICK_PIXELS
        return small and self.light and not self.has_many_scans

    def peak_bytes(self, needs: tuple[int, int] | None) -> int:
        """Upper bound of the memory that the pixels take while `decode` works."""
        scale = self._scale(needs)
        pixels = -(-self.width // scale) * -(-self.height // scale)
        return 3 * pixels * (1 if self.orientation == 1 else 2)

    def decode(self, needs: tuple[int, int] | None) -> DecodedImage:
        """Decode all of it, reduced as far as `needs` (width, height) allows. needs: None for every pixel.

        Sizes are reduced by 2, 4 or 8 in the DCT. The array is new.
        Raises UndecodableImageError where anything is missing or wrong, and UnusualJpegError.
        """
        if self.has_many_scans:
            self._check_scans()
        scale = self._scale(needs)
        pixels = upright(self._pixels(scale, exact=needs is None), self.orientation)
        width, height = (self.height, self.width) if is_sideways(self.orientation) else (self.width, self.height)
        return reduced(DecodedImage(pixels, width, height, scale), needs)

    def _check_scans(self) -> None:
        scans = sum(1 for _ in _SCAN_MARKER.finditer(self.data))
        if scans > _MAX_SCANS:
            raise UndecodableImageError(
                f"this JPEG has {scans} scans, at most {_MAX_SCANS} are accepted; save it as a baseline JPEG"
            )

    def _scale(self, needs: tuple[int, int] | None) -> int:
        """By how much to shrink the picture in the DCT.

        One that is turned must divide evenly, so that a point's place stays `scale` times its coordinates also where
        the last column becomes the first.
        """
        wanted = (needs[1], needs[0]) if needs is not None and is_sideways(self.orientation) else needs
        scales = possible_scales(self.width, self.height, wanted)
        return next(s for s in scales if self.orientation == 1 or self.width % s == self.height % s == 0)

    def _pixels(self, scale: int, *, exact: bool) -> Frame:
        """Decode into a new array.

        exact: interpolate the colours between their samples, to look at. Networks do not mind (TinyPose on COCO has an
        AP of 0.676 either way), and it takes 9 % of the time. The fast DCT would take another 9 %, but is a little off
        everywhere, brightness included: AP 0.674.
        """
        data = self._without_strays()
        try:
            # Strict: what libjpeg calls a warning (a missing end, a broken block) is an error here.
            return self._decode(data, scale, exact=exact, strict=True)
        except ValueError as error:
            reason = str(error)
        if "extraneous" in reason and _END_MARKER.search(self.data, self.scan):
            # Bytes behind a scan. They cannot be told from a part of it without decoding, so leave that to libjpeg.
            try:
                return self._decode(data, scale, exact=exact, strict=False)
            except ValueError as error:
                reason = str(error)
        raise self._complaint(reason)

    def _decode(self, data: bytes | memoryview, scale: int, *, exact: bool, strict: bool) -> Frame:
        pixels = simplejpeg.decode_jpeg(
            data,
            "RGB",
            fastupsample=not exact,
            min_width=-(-self.width // scale) if scale > 1 else 0,
            min_height=-(-self.height // scale) if scale > 1 else 0,
            strict=strict,
        )
        return cast(Frame, pixels)

    def _without_strays(self) -> bytes | memoryview:
        if not self.strays:
            return self.data
        view, starts, stops = memoryview(self.data), [0], []
        for start, stop in self.strays:
            stops.append(start)
            starts.append(stop)
        return b"".join(view[start:stop] for start, stop in zip(starts, [*stops, len(view)], strict=True))

    def _complaint(self, reason: str) -> ImageError:
        if "subsampling" in reason:
            return UnusualJpegError("its chroma sampling is unusual")
        if "remature end" in reason:
            return truncated(
                "JPEG", f"its {len(self.data)} bytes end before its {self.width} x {self.height} pixels do"
            )
        return corrupt("JPEG", "its compressed data is damaged")


def _read(data: bytes | memoryview) -> JpegFile:
    """Walk over the segments up to the first scan."""
    size: tuple[int, int, int, int] | None = None
    orientation, blocks = None, 0
    strays: list[tuple[int, int]] = []
    marker, at, patience = 0, 2, _MAX_STRAY_BYTES
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at, at + patience + 2)
        if found is None:
            if at + patience < len(data):
                raise corrupt("JPEG", f"there is no marker in the {patience:,} bytes from byte {at:,} on")
            raise IndexError("no marker ends the file")
        if found.start() > at:
            strays.append((at, found.start()))
            patience -= found.start() - at
        at = found.end()
        marker = data[at - 1]
        if marker == _END:
            break
        if marker in _ALONE:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if marker in _SIZES:
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
            size = width, height, components, marker
        elif marker == _EXIF and blocks < _MAX_BLOCKS and bytes(data[at + 2 : at + 8]) == b"Exif\0\0":
            blocks += 1
            orientation = orientation or read_orientation(memoryview(data)[at + 8 : at + length])
        elif marker == _SCAN:
            break
        at += length
    if size is None or marker != _SCAN:
        raise corrupt("JPEG", "there is no picture in it")
    width, height, components, frame = size
    many = frame in _PROGRESSIVE or data[at + 2] < components
    light = frame in _USUAL and not (many and width * height > _LIGHT_PIXELS)
    return JpegFile(data, width, height, orientation or 1, at, many, light, tuple(strays))
