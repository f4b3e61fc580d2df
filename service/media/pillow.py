"""Decoding images with Pillow: all kinds but usual JPEGs. Runs only in decoder processes, as bytes may be hostile.

This module imports Pillow and nothing else that is large, so that these processes are small and start quickly.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from service.media.image_files import (
    ImageError,
    ImageLimits,
    ImageTooLargeError,
    UndecodableImageError,
    corrupt,
    possible_scales,
    read_orientation,
    truncated,
)

BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white, as on a web page."""

# Texts and profiles that unpack to more bytes are left out; decoding does not need them.
PngImagePlugin.MAX_TEXT_CHUNK = 4096

_WEBP_BYTES_PER_PIXEL = 16
"""Pillow decodes every WebP with libwebp's animation decoder, which keeps two canvases; Pillow adds two copies."""
_BAND_PIXELS = 1 << 20
"""Pixels are converted in bands of this size, so that no step copies the whole image."""

_DIRECT_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"})
_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

# Tags of TIFF 6.0.
_BITS, _PHOTOMETRIC, _SAMPLES, _ROWS, _PLANAR, _TILE_WIDTH, _TILE_HEIGHT = 258, 262, 277, 278, 284, 322, 323
_STRIPS, _TILES = (273, 279), (324, 325)  # the tags of their offsets and of their byte counts
_COMPRESSIONS = frozenset({"raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate", "tiff_deflate", "packbits", "zstd"})
"""Without fax compression: libtiff decodes any bytes as fax."""


@dataclass(frozen=True, slots=True)
class PillowFile:
    """An image file whose header Pillow has read.

    width, height: of the upright image at full size. scale: the factor by which `decode` reduces the image.
    """

    kind: str
    data: bytes
    image: ImageFile.ImageFile
    width: int
    height: int
    scale: int

    @staticmethod
    def read(kind: str, data: bytes, limits: ImageLimits, needs: tuple[int, int] | None, memory: int) -> PillowFile:
        """Read the header. kind: one of image_files.IMAGES; no other decoder is tried. memory: limit of the process in
        bytes. Raises ImageError.
        """
        most = min(limits.max_pixels, memory // _WEBP_BYTES_PER_PIXEL)
        try:
            # This allocates the canvas of a WebP. Pillow refuses images with more than twice this number of pixels.
            Image.MAX_IMAGE_PIXELS = -(-most // 2) if kind == "WebP" else None
            image = _open(kind, data)
            sideways = kind != "TIFF" and _orientation(image) >= 5
        except Exception as error:  # noqa: BLE001 - Pillow parses in Python and can raise anything
            raise _refusal(kind, data, error, most) from None
        width, height = reversed(image.size) if sideways else image.size
        limits.check_size(width, height)
        return PillowFile(kind, data, image, width, height, next(possible_scales(width, height, needs)))

    def decode(self) -> Image.Image:
        """Decode the first page as RGB: upright, reduced, on BACKGROUND where transparent. Raises ImageError."""
        try:
            if self.kind == "TIFF":
                _check_tiff(self.image, len(self.data))
            elif self.kind == "PNG":
                # Pillow does not check the checksums of pixels when it decodes, and a verified file cannot be decoded.
                _open("PNG", self.data).verify()
                # The first frame of an animation is the whole image, also if the animation's chunks are damaged.
                self.image.tile = [tile._replace(extents=(0, 0, *self.image.size)) for tile in self.image.tile]
            self.image.load()
            return _finished(self.kind, self.image, self.scale)
        except Exception as error:  # noqa: BLE001 - see above
            raise _refusal(self.kind, self.data, error, self.width * self.height) from None


def _open(kind: str, data: bytes) -> ImageFile.ImageFile:
    # Damaged texts and profiles of a PNG are left out, as by libpng. Pixels must be complete.
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=(kind.upper(),))
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def _refusal(kind: str, data: bytes, error: Exception, pixels: int) -> ImageError:
    """The error for the client, in our own words."""
    reason = str(error).lower()
    if isinstance(error, ImageError):
        return error
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLargeError(
            f"the image has more than the {pixels:,} pixels that are accepted of a {kind}; send it smaller"
        )
    if isinstance(error, MemoryError) or "out of memory" in reason:
        return ImageTooLargeError(
            f"decoding this {kind} takes more memory than a picture may take; send it smaller, or as a JPEG"
        )
    if "truncated" in reason or isinstance(error, EOFError) or _is_cut_off(kind, data):
        return truncated(kind, f"it ends after {len(data)} bytes, before its picture does")
    if isinstance(error, UnidentifiedImageError):
        if kind == "TIFF":  # Pillow supports many kinds of TIFF, but not all
            return UndecodableImageError(
                "this TIFF is corrupt (its header makes no sense), or of a kind that is not accepted; save it as PNG"
            )
        return corrupt(kind, "its header makes no sense")
    return corrupt(kind, "its pixels cannot be decoded")


def _is_cut_off(kind: str, data: bytes) -> bool:
    if kind == "PNG":
        return b"IEND" not in data
    if kind == "WebP":
        return len(data) < 30 or int.from_bytes(data[4:8], "little") + 8 > len(data)
    return kind == "BMP" and len(data) < 54


def _orientation(image: Image.Image) -> int:
    exif = image.info.get("exif")
    return (read_orientation(exif) if isinstance(exif, bytes) else None) or 1


def _check_tiff(image: ImageFile.ImageFile, size: int) -> None:
    """Raise UndecodableImageError for files that Pillow or libtiff would decode to wrong pixels."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    compression = image.info.get("compression")
    if compression not in _COMPRESSIONS:
        raise UndecodableImageError("a TIFF of this compression is not accepted; save it as PNG")
    samples, planar = tags.get(_SAMPLES, 1), tags.get(_PLANAR, 1) == 2
    if planar and samples > 1 and max(tags.get(_BITS, (1,))) != 8:
        raise UndecodableImageError(
            "a TIFF with planes of more or less than 8 bits a channel is not accepted; export it with its channels "
            "interleaved (PlanarConfiguration 1), or as PNG"
        )
    width, height = (tags[256], tags[257])
    if _STRIPS[0] in tags:
        kind, expected = _STRIPS, -(-height // max(1, min(tags.get(_ROWS, height), height)))
    else:
        kind = _TILES
        expected = -(-width // max(1, tags.get(_TILE_WIDTH, 0))) * -(-height // max(1, tags.get(_TILE_HEIGHT, 0)))
    offsets, sizes = tags.get(kind[0], ()), tags.get(kind[1], ())
    if len(offsets) < expected * (samples if planar else 1) or len(sizes) < len(offsets):
        raise corrupt("TIFF", "some of its strips or tiles are missing")
    end = max(offset + length for offset, length in zip(offsets, sizes, strict=False))
    if end > size:
        raise truncated("TIFF", f"it ends after {size} bytes, its pixels go on to byte {end}")


def _finished(kind: str, image: ImageFile.ImageFile, scale: int) -> Image.Image:
    """The loaded image as RGB, reduced and upright."""
    # Pillow rotates a TIFF itself. A PNG can have its metadata after its pixels.
    orientation = 1 if kind == "TIFF" else _orientation(image)
    across, down = max(1, image.width // scale), max(1, image.height // scale)
    # Rows and columns that do not fill a pixel are left out at the right and bottom of the upright image.
    left = max(0, image.width - across * scale) if orientation in (2, 3, 7, 8) else 0
    top = max(0, image.height - down * scale) if orientation in (3, 4, 6, 7) else 0
    right, bottom = min(image.width, left + across * scale), min(image.height, top + down * scale)
    convert = _Converter(kind, image)
    result = Image.new("RGB", (across, down))
    rows = max(1, _BAND_PIXELS // (image.width * scale))
    for row in range(0, down, rows):
        box = (left, top + row * scale, right, min(bottom, top + (row + rows) * scale))
        band = convert(image.crop(box))
        result.paste(band.reduce(scale) if scale > 1 else band, (0, row))
    image.close()
    turn = _TURNS.get(orientation)
    return result if turn is None else result.transpose(turn)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Converter:
    """Converts parts of an image to RGB."""

    def __init__(self, kind: str, image: ImageFile.ImageFile) -> None:
        """Raises UndecodableImageError if the pixels have no known range of values."""
        self._alpha = image.mode in _ALPHA_MODES or image.has_transparency_data
        self._levels: list[int] | None = None
        clear = image.info.get("transparency")
        if image.mode.startswith("I;16"):
            self._alpha = False  # ignores the transparent colour of a 16-bit PNG, as OpenCV does
            self._levels = _levels(image)
        elif image.mode not in _DIRECT_MODES | _ALPHA_MODES:
            raise UndecodableImageError(
                f"pixels of Pillow's mode {image.mode} have no known range of values; export it with 8 or 16 bits a "
                "channel"
            )
        elif image.mode == "RGB" and isinstance(clear, tuple) and max(clear) > 255:
            self._alpha = False
        elif kind == "BMP" and self._alpha:
            # Most programs leave the fourth byte unused and 0.
            self._alpha = image.getchannel("A").getextrema() != (0, 0)

    def __call__(self, part: Image.Image) -> Image.Image:
        if self._levels is not None:
            return part.convert("I").point(self._levels, "L").convert("RGB")
        if not self._alpha:
            part.info.pop("transparency", None)
            return part.convert("RGB")
        clear = part.convert("RGBA")
        alpha = clear.getchannel("A")
        if alpha.getextrema() == (255, 255):
            return clear.convert("RGB")
        result = Image.new("RGB", part.size, BACKGROUND)
        result.paste(clear.convert("RGB"), mask=alpha)
        return result


def _levels(image: ImageFile.ImageFile) -> list[int]:
    """The 8-bit value for every value of up to 16 bits."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    levels = [min(value >> (bits - 8), 255) for value in range(1 << 16)]
    return [255 - level for level in levels] if tags.get(_PHOTOMETRIC, 1) == 0 else levels
