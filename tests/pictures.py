"""Pictures for tests and benchmarks, created or from scikit-image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def photo(width: int = 640, height: int = 480, seed: int = 0) -> Image.Image:
    """Smooth colours with some texture: compresses like a photograph and shows no people."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (12, 16, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = rng.normal(0, 6, (height, width, 1))
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def encoded(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Encode a picture as a file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def astronaut() -> Image.Image:
    """Eileen Collins, the public-domain NASA portrait that scikit-image ships."""
    from skimage import data

    return Image.fromarray(data.astronaut())  # type: ignore[no-untyped-call]


def mosaic(picture: Image.Image, columns: int = 2, rows: int = 2) -> Image.Image:
    """The picture several times side by side."""
    width, height = picture.size
    sheet = Image.new("RGB", (columns * width, rows * height))
    for n in range(columns * rows):
        sheet.paste(picture, (n % columns * width, n // columns * height))
    return sheet
