"""From the bytes that a client sent to an RGB image, limits first."""

from __future__ import annotations

from collections.abc import Collection

from service.media.decoded import DecodedImage
from service.media.decoder_pool import DecoderPool
from service.media.decoder_process import Bounds
from service.media.errors import ImageError, ImageTooLargeError, NotAnImageError, UndecodableImageError
from service.media.jpeg import JpegFile, UnusualJpegError
from service.media.kinds import IMAGES, kind_of
from service.media.limits import ImageLimits

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
    """The kind of an image, and its header where it is a JPEG that may be decoded in this process.

    That takes a bounded time and little memory; all else is for a decoder process. The types are told by the bytes.
    Takes at most some 2 ms, whatever the bytes are. Raises ImageError as `decode` does.
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

    needs: the (width, height) that the picture is to be fitted into; it comes at 1/2, 1/4 or 1/8 of its size while that
    still fills it along one side. None: every pixel, as exact as for the eye.
    pool: decodes what is not a light JPEG; without one, a process is started for this picture, which takes 0.1 s.
    Raises ImageTooLargeError from the header alone, before memory is taken, or where decoding takes more than the
    pool's bounds; NotAnImageError for other types; UndecodableImageError for an empty, truncated or corrupt file.
    Never returns a part of a picture. Raises DecoderEndedError and MemoryError where the image is not to blame.

    May be called from many threads at once; the decoders let go of the interpreter lock.
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
