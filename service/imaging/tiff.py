"""TIFF: the first page's tags checked here, its pixels decoded by Pillow's libtiff."""

from __future__ import annotations

import contextlib
import ctypes
import struct
from dataclasses import dataclass

from PIL import _imaging

from service.imaging.errors import UndecodableImageError, corrupt, truncated
from service.imaging.orientation import upright
from service.imaging.pillow import load_rgb
from service.imaging.stored import DecodedImage
from service.imaging.tags import Directory, TagError, read_directory, read_orientation

_WIDTH, _HEIGHT, _COMPRESSION, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 259, 322, 323
_STRIPS, _TILES = (273, 279), (324, 325)  # the tags of their offsets and of their byte counts
_SCALARS = frozenset({_WIDTH, _HEIGHT, _COMPRESSION, 262, 266, 277, 278, 284, 317, _TILE_WIDTH, _TILE_HEIGHT})
# The tags that say how pixels are stored (TIFF 6.0): the ones above, bits, palette, inks, alpha, number format, JPEG
# tables, and colour space.
_NEEDED = _SCALARS | {*_STRIPS, *_TILES, 258, 320, 332, 338, 339, 347, 529, 530, 531, 532}
_BYTES = frozenset({1, 2, 6, 7})

_COMPRESSIONS = frozenset({1, 5, 7, 8, 32773, 32946, 50000})
"""None, LZW, JPEG, deflate, PackBits, Zstandard. Fax is left out: libtiff makes a picture of whatever it is given."""

_MAX_VALUES = 1 << 17
"""Of one tag: the places of the tiles of 16 x 16 pixels in a picture of 33 megapixels."""

_MAX_TILE_PIXELS = 1 << 24


def _silence_libtiff() -> None:
    """Keep libtiff, as Pillow loads it, from writing what it thinks of clients' bytes on stderr: a line per fault.

    Pillow has no setting for it; the symbol is found through the extension module's own dependencies.
    """
    with contextlib.suppress(OSError, AttributeError):  # linked in another way: the lines are a nuisance, no more
        ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)


_silence_libtiff()


@dataclass(frozen=True, slots=True, eq=False)
class TiffFile:
    """A TIFF file of which the first directory has been read."""

    data: bytes | memoryview
    width: int
    height: int
    directory: Directory

    @staticmethod
    def matches(data: bytes | memoryview) -> bool:
        """Whether the file begins as a TIFF does (BigTIFF too, which `read` refuses with a reason)."""
        return bytes(data[:4]) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    @staticmethod
    def read(data: bytes | memoryview) -> TiffFile:
        """Read the first directory. Raises UndecodableImageError where it makes no sense or goes beyond the file."""
        try:
            directory = read_directory(memoryview(data))
        except TagError as error:
            raise UndecodableImageError(f"truncated or corrupt TIFF: {error}; send the whole file") from None
        return TiffFile(data, directory.first(_WIDTH), directory.first(_HEIGHT), directory)

    def decode(self, _needs: tuple[int, int] | None, /) -> DecodedImage:
        """See `StoredImage.decode`: always at full size. Of several pages it is the first."""
        _check_tags(self.directory)
        _check_places(self.directory)
        pixels = load_rgb("TIFF", self._essentials(), self.width, self.height)
        pixels = upright(pixels, read_orientation(memoryview(self.data)))
        return DecodedImage(pixels, pixels.shape[1], pixels.shape[0])

    def _essentials(self) -> bytes:
        """The file with a first and only directory that has the needed tags alone, once each.

        Pillow reads every tag of every directory it can reach into memory, and follows more of them for metadata.
        This copies the file, the offsets in which stay valid; uncompressed, that is a copy of the pixels.
        """
        order = self.directory.order
        entries = [tag.entry for number, tag in sorted(self.directory.tags.items()) if number in _NEEDED]
        odd = bytes(len(self.data) % 2)  # directories begin on even bytes
        head = bytes(self.data[:4]) + struct.pack(f"{order}I", len(self.data) + len(odd))
        last = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
        return b"".join((head, memoryview(self.data)[8:], odd, last))


def _check_tags(directory: Directory) -> None:
    """Raise UndecodableImageError where decoding would cost more than the picture is worth."""
    tags = {number: tag for number, tag in directory.tags.items() if number in _NEEDED}
    if any(tag.count != 1 for number, tag in tags.items() if number in _SCALARS):
        raise corrupt("TIFF", "a tag that has one value has several")
    # Tags may name the same bytes over and over.
    too_many = any(tag.count > _MAX_VALUES for tag in tags.values() if tag.kind not in _BYTES)
    if too_many or sum(tag.size for tag in tags.values()) > len(directory.data):
        raise corrupt("TIFF", "its tags have more values than make sense")
    # A tile is unpacked as a whole, however much of it lies outside of the picture.
    if directory.first(_TILE_WIDTH) * directory.first(_TILE_HEIGHT) > _MAX_TILE_PIXELS:
        raise UndecodableImageError("this TIFF has tiles of more than 16 megapixels; export it with smaller ones")
    if (compression := directory.first(_COMPRESSION, 1)) not in _COMPRESSIONS:
        raise UndecodableImageError(f"a TIFF of compression {compression} is not accepted; save it as PNG")


def _check_places(directory: Directory) -> None:
    """Raise UndecodableImageError where strips or tiles are not within the file.

    Pillow would take what `_essentials` appends for the missing pixels.
    """
    kind = _STRIPS if _STRIPS[0] in directory.tags else _TILES
    offsets, sizes = directory.values(kind[0]), directory.values(kind[1])
    if not len(offsets) or len(offsets) != len(sizes):
        raise corrupt("TIFF", f"it has {len(offsets)} strips or tiles and the sizes of {len(sizes)}")
    end = int((offsets + sizes).max())
    if end > len(directory.data):
        raise truncated("TIFF", f"it ends after {len(directory.data)} bytes, its pixels go on to byte {end}")
