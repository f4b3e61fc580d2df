"""Everything but the usual JPEG is decoded by Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from typing import cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from engines.poses import Frame
from service.imaging.errors import UndecodableImageError, corrupt, truncated

# `decode` has judged the size by the service's own limits; Pillow's would warn, on stderr, about less.
Image.MAX_IMAGE_PIXELS = None

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as on a web page."""

# What Pillow's plugins raise for hostile bytes. They parse with plain Python, so that nearly anything can come out:
# broken data streams (OSError, SyntaxError, EOFError, ValueError, zlib.error), headers that end early or point nowhere
# (struct.error, IndexError, KeyError, TypeError, AttributeError), absurd numbers (OverflowError, ZeroDivisionError,
# MemoryError), and, where a program turns warnings into errors, what it would have warned of.
_FAILURES = (
    OSError, SyntaxError, EOFError, ValueError, zlib.error, struct.error, IndexError, KeyError, TypeError,
    AttributeError, OverflowError, ZeroDivisionError, MemoryError, RuntimeError, AssertionError, Warning,
)  # fmt: skip

_DIRECT_MODES = frozenset({"1", "L", "P", "CMYK", "YCbCr", "RGBX"})


def load_rgb(kind: str, data: bytes | memoryview, width: int, height: int) -> Frame:
    """The first page of a file as (height, width, 3) uint8 RGB, not turned, transparent parts on `BACKGROUND`.

    kind: the format as Pillow calls it; no other decoder is tried. width, height: what `data`'s header says.
    Raises UndecodableImageError where Pillow fails, for whatever reason, or sees another size.

    The pixels are written once by the decoder and copied once into the array; in other modes than RGB a conversion
    copies them a third time.
    """
    try:
        # A BytesIO shares the memory of `bytes`; a memoryview is copied (compressed, so it is small).
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.size != (width, height):
                raise corrupt(kind, f"its header says {width} x {height} pixels, its data {image.size}")
            image.load()
            return _to_rgb(image)
    except UndecodableImageError:
        raise
    except _FAILURES as error:
        # Pillow names the BytesIO, by its address, where it can say nothing about its content.
        unidentified = isinstance(error, UnidentifiedImageError)
        reason = "its header makes no sense" if unidentified else str(error) or type(error).__name__
        if "truncated" in reason.lower() or isinstance(error, EOFError):
            raise truncated(kind, f"its {len(data)} bytes end before its {width} x {height} pixels do") from None
        raise corrupt(kind, reason) from None


def _to_rgb(image: Image.Image) -> Frame:
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        canvas = Image.new("RGBA", image.size, BACKGROUND)
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas.convert("RGB")
    elif image.mode in _DIRECT_MODES:
        image = image.convert("RGB")
    elif image.mode != "RGB":
        raise UndecodableImageError(
            f"pixels of Pillow's mode {image.mode} have no known range of values; export it with 8 or 16 bits a channel"
        )
    return cast(Frame, np.asarray(image))
