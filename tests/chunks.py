"""Chunks of compressed video for tests, as a client sends them, without timestamps."""

from __future__ import annotations

import av
import numpy as np
import pytest

from engines.poses import Frame
from service.client.video import VideoEncoder

CODECS = ("vp8", "vp9", "h264", "av1")


def encoder(codec: str) -> VideoEncoder:
    """An encoder; skips the test where FFmpeg was built without it."""
    made = VideoEncoder(codec)
    try:
        made.encode(scene(0))
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"this build of av cannot encode {codec}: {error}")
    made.want_key_frame()
    return made


def scene(number: int, width: int = 320, height: int = 240) -> Frame:
    """A bright square that moves before a textured wall."""
    wall = np.random.default_rng(0).integers(40, 90, (height // 8, width // 8, 3), np.uint8)
    pixels = wall.repeat(8, axis=0).repeat(8, axis=1)
    left = 10 + 5 * (number % 40)
    pixels[60:100, left : left + 40] = (250, 200, 40)
    return pixels


def chunks(codec: str, count: int, width: int = 320, height: int = 240) -> list[bytes]:
    """The first chunks of a video: a key frame and others that depend on it."""
    made = encoder(codec)
    return [made.encode(scene(number, width, height)) for number in range(count)]
