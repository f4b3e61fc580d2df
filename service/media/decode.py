"""Decoding image files to RGB. Limits are checked before anything is decoded."""

from __future__ import annotations

from collections.abc import Collection

from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds
from service.media.image_files import (
    IMAGES,
    ImageError,
    ImageLimits,
    ImageTooLargeError,
    NotAnImageError,
    UndecodableImageError,
    kind_of,
)
from service.media.jpeg import JpegFile, UnusualJpegError
from service.media.pixels import DecodedImage

__all__ = [
    "DecodedImage",
    "ImageError",
    "ImageLimits",
    "ImageTooLargeError",
    "NotAnImageError",
    "UndecodableImageError",
    "decode",
    "recognise",
]


def recognise(
    data: bytes | memoryview, limits: ImageLimits, accepted: Collection[str] = IMAGES
) -> tuple[str, JpegFile | None]:
    """Determine an image's kind from its bytes. Also return the header of a JPEG that may be decoded in this process.

    Decoding such a JPEG takes a bounded time and little memory; other images need a decoder process.
    Takes at most about 2 ms, whatever the bytes are. Raises ImageError as `decode` does.
    """
    limits.check_bytes(len(data))
    kind = kind_of(data, accepted)
    file = JpegFile.read(data, limits) if kind == "JPEG" else None
    return kind, file if file is not None and file.light else None


def decode(
    data: bytes | memoryview,
    limits: ImageLimits,
    *,
    needs: tuple[int, int] | None = None,
    pool: DecoderPool | None = None,
) -> DecodedImage:
    """Decode an image.

    needs: the (width, height) into which the image will be fitted. The image is decoded at 1/2, 1/4 or 1/8 of its size
    if that still fills `needs` along one side. None: full size, at the highest quality.
    pool: decodes images that are not light JPEGs. Without a pool, a process is started for this image, which takes
    0.1 s.
    Raises ImageTooLargeError from the header alone, before memory is allocated, or if decoding exceeds the pool's
    bounds; NotAnImageError for other types; UndecodableImageError for an empty, truncated or corrupt file. Never
    returns a partial image. Raises DecoderEndedError and MemoryError if the image is not to blame.

    Thread-safe; the decoders release the interpreter lock.
    """
    kind, file = recognise(data, limits)
    if file is not None:
        try:
            return file.decode(needs)
        except UnusualJpegError:
            pass
    if pool is not None:
        return pool.decode(kind, data, limits, needs)
    with DecoderPool(1, Bounds()) as own:
        return own.decode(kind, data, limits, needs)
