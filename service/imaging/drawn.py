"""A picture with its people drawn on it, from file to file."""

from __future__ import annotations

from engines.poses import Poses
from service.imaging.decode import Limits, decode
from service.imaging.encode import encode
from service.imaging.overlay import draw


def drawn(data: bytes, limits: Limits, poses: Poses, media_type: str) -> bytes:
    """The picture of the encoded image `data`, all of its pixels, with `poses` (in these) drawn, as a `media_type`.

    It is decoded for that: the networks needed less, and no more is kept of images that wait. Raises as `decode` and
    `encode` do.
    """
    return encode(draw(decode(data, limits).pixels, poses), media_type)
