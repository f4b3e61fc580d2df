"""Pictures are written as clients asked for them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from service.media.encode import MEDIA_TYPES, encode
from tests.service.media.files import picture, rgb

PIXELS = np.asarray(picture())


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_the_file_is_of_its_type_and_shows_the_pixels(media_type: str) -> None:
    image = Image.open(io.BytesIO(encode(PIXELS, media_type)))
    assert image.get_format_mimetype() == media_type
    assert np.abs(rgb(image) - PIXELS).mean() < (0.001 if media_type == "image/png" else 4)


def test_quality_is_size() -> None:
    assert len(encode(PIXELS, "image/jpeg", quality=50)) < len(encode(PIXELS, "image/jpeg", quality=95))


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot write 'image/gif', only image/jpeg and image/png"):
        encode(PIXELS, "image/gif")
