"""Hooks that give schemathesis real images for binary fields, which no schema can describe."""

from __future__ import annotations

import base64

import schemathesis
from hypothesis import strategies as st

from tests.pictures import encoded, photo

_IMAGES = {f"image/{kind}": encoded(photo(48, 32), kind.upper()) for kind in ("jpeg", "png", "webp", "bmp", "tiff")}

for media_type, image in _IMAGES.items():
    schemathesis.openapi.media_type(media_type, st.just(image))
schemathesis.openapi.format("binary", st.sampled_from(list(_IMAGES.values())))
schemathesis.openapi.format("byte", st.sampled_from([base64.b64encode(image).decode() for image in _IMAGES.values()]))
