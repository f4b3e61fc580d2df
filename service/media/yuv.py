"""Decoded video frames to RGB."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from engines.poses import Frame

_HD_HEIGHT = 720
"""From this height on, videos without a colour matrix are assumed to use BT.709, as players do."""
_UNNAMED = 2


def to_rgb(frame: av.VideoFrame, width: int, height: int, reformatter: VideoReformatter | None = None) -> Frame:
    """Convert a frame to full-range RGB of this size.

    reformatter: for one frame after another, in one thread. Without it, each frame has its own, and threads of it.
    """
    matrix = "ITU709" if frame.colorspace == _UNNAMED and frame.height >= _HD_HEIGHT else None
    options: dict[str, Any] = {"src_colorspace": matrix, "dst_color_range": "JPEG"}
    if reformatter is None:
        rgb = frame.reformat(width, height, "rgb24", **options)
    else:
        rgb = reformatter.reformat(frame, width, height, "rgb24", threads=1, **options)
    return np.ascontiguousarray(rgb.to_ndarray(), np.uint8)
