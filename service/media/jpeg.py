"""Decoding JPEG with libjpeg-turbo."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import cast

import simplejpeg

from engines.poses import Frame
from service.media.image_files import (
    ImageError,
    ImageLimits,
    UndecodableImageError,
    corrupt,
    possible_scales,
    read_orientation,
    truncated,
)
from service.media.pixels import DecodedImage, is_sideways, reduced, upright

_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_USUAL = frozenset({0xC0, 0xC1, 0xC2})  # Huffman-coded: baseline, extended and progressive
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_EXIF, _SCAN, _END = 0xE1, 0xDA, 0xD9
_MARKER = re.compile(rb"\xff[^\x00\xff]")
_SCAN_MARKER = re.compile(rb"\xff\xda")
_END_MARKER = re.compile(rb"\xff\xd9")

# Encoders write a few dozen segments and at most about 20 scans. The image's size does not bound the work for them:
# a scan of a few bytes makes the decoder visit every block.
_MAX_SEGMENTS = 1024
_MAX_SCANS = 50
_MAX_BLOCKS = 4
"""Blocks of EXIF metadata that are read. The first with an orientation is used."""
_MAX_STRAY_BYTES = 1 << 16
"""Bytes between segments, in total. Webcams write a few hundred. The search for the next marker must end."""

_QUICK_BYTES, _QUICK_PIXELS = 500_000, 1_000_000
_LIGHT_PIXELS = 4_000_000
"""Limit for an image in several scans: libjpeg keeps all coefficients, 6 bytes a pixel, and visits them per scan."""


class UnusualJpegError(ImageError):
    """TurboJPEG does not support this JPEG. Pillow's libjpeg may."""


@dataclass(frozen=True, slots=True)
class JpegFile:
    """A JPEG file whose segments before the first scan have been read.

    width, height: pixels as stored, before the orientation is applied. scan: offset of the first scan. light: decoding
    takes little memory beside the pixels, and a bounded time. strays: the (start, stop) of bytes between segments.
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
        """Read the header. Takes at most about 2 ms, whatever the bytes are.

        Raises UndecodableImageError if the header is truncated or invalid, and as `ImageLimits.check_size`.
        """
        try:
            file = _read(data)
        except (IndexError, struct.error):
            raise truncated("JPEG", f"it ends after {len(data)} bytes, inside its header") from None
        limits.check_size(file.width, file.height)
        return file

    def decoded_size(self, needs: tuple[int, int] | None) -> tuple[int, int, int]:
        """The (width, height) of the pixels that `decode` returns, and the factor by which it reduces the image."""
        scale = self._scale(needs)
        width, height = -(-self.width // scale), -(-self.height // scale)
        if is_sideways(self.orientation):
            width, height = height, width
        if scale == 1:
            scale = next(possible_scales(width, height, needs))
            width, height = max(1, width // scale), max(1, height // scale)
        return width, height, scale

    @property
    def quick(self) -> bool:
        """True if decoding takes at most about 2 ms of one core, or 10 ms for a hostile file."""
        small = len(self.data) <= _QUICK_BYTES and self.width * self.height <= _QUICK_PIXELS
        return small and self.light and not self.has_many_scans

    def peak_bytes(self, needs: tuple[int, int] | None) -> int:
        """Upper bound of the memory for pixels during `decode`."""
        scale = self._scale(needs)
        pixels = -(-self.width // scale) * -(-self.height // scale)
        return 3 * pixels * (1 if self.orientation == 1 else 2)

    def decode(self, needs: tuple[int, int] | None) -> DecodedImage:
        """Decode the image, reduced as far as `needs` (width, height) allows. needs: None for full size.

        The DCT reduces sizes by 2, 4 or 8. Returns a new array.
        Raises UndecodableImageError if any data is missing or damaged, and UnusualJpegError.
        """
        if self.has_many_scans:
            self._check_scans()
        scale = self._scale(needs)
        pixels = upright(self._pixels(scale, exact=needs is None), self.orientation)
        return reduced(DecodedImage(pixels, *self.upright_size, scale), needs)

    @property
    def upright_size(self) -> tuple[int, int]:
        """The width and height of the image as displayed."""
        return (self.height, self.width) if is_sideways(self.orientation) else (self.width, self.height)

    def _check_scans(self) -> None:
        scans = sum(1 for _ in _SCAN_MARKER.finditer(self.data))
        if scans > _MAX_SCANS:
            raise UndecodableImageError(
                f"this JPEG has {scans} scans, at most {_MAX_SCANS} are accepted; save it as a baseline JPEG"
            )

    def _scale(self, needs: tuple[int, int] | None) -> int:
        """The factor by which to reduce the image in the DCT.

        The sides of a rotated image must be divisible by it. Then coordinates times `scale` are correct also if the
        last column becomes the first.
        """
        wanted = (needs[1], needs[0]) if needs is not None and is_sideways(self.orientation) else needs
        scales = possible_scales(self.width, self.height, wanted)
        return next(s for s in scales if self.orientation == 1 or self.width % s == self.height % s == 0)

    def _pixels(self, scale: int, *, exact: bool) -> Frame:
        """Decode into a new array.

        exact: interpolate colours between their samples, for images that people see. Networks give the same results
        without it (TinyPose on COCO: AP 0.676), and it takes 9 % of the time. The fast DCT would save another 9 %, but
        changes all values slightly, brightness included: AP 0.674.
        """
        data = self._without_strays()
        try:
            # strict: warnings of libjpeg (a missing end, a damaged block) are errors.
            return self._decode(data, scale, exact=exact, strict=True)
        except ValueError as error:
            reason = str(error)
        if "extraneous" in reason and _END_MARKER.search(self.data, self.scan):
            # Bytes after a scan. Only libjpeg can tell them from the scan itself, by decoding.
            try:
                return self._decode(data, scale, exact=exact, strict=False)
            except ValueError as error:
                reason = str(error)
        raise self._refusal(reason)

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

    def _refusal(self, reason: str) -> ImageError:
        if "subsampling" in reason:
            return UnusualJpegError("its chroma sampling is unusual")
        if "remature end" in reason:
            return truncated(
                "JPEG", f"its {len(self.data)} bytes end before its {self.width} x {self.height} pixels do"
            )
        return corrupt("JPEG", "its compressed data is damaged")


def seems_quick(data: bytes) -> bool:
    """True if an image is probably a JPEG that is `quick`; its header is not read."""
    return data[:3] == b"\xff\xd8\xff" and len(data) <= _QUICK_BYTES


def _read(data: bytes | memoryview) -> JpegFile:
    """Read the segments up to the first scan."""
    size: tuple[int, int, int, int] | None = None
    orientation, blocks = None, 0
    strays: list[tuple[int, int]] = []
    marker, at, strays_left = 0, 2, _MAX_STRAY_BYTES
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(data, at, at + strays_left + 2)
        if found is None:
            if at + strays_left < len(data):
                raise corrupt("JPEG", f"there is no marker in the {strays_left:,} bytes from byte {at:,} on")
            raise IndexError("no marker ends the file")
        if found.start() > at:
            strays.append((at, found.start()))
            strays_left -= found.start() - at
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
