"""Decoded video frames to RGB."""

from __future__ import annotations

import av
import numpy as np

from engines.poses import Frame

_HD_HEIGHT = 720
"""From this height on, videos without a colour matrix are assumed to use BT.709, as players do."""
_UNNAMED = 2


def to_rgb(frame: av.VideoFrame, width: int, height: int) -> Frame:
    """Convert a frame to full-range RGB of this size."""
    matrix = "ITU709" if frame.colorspace == _UNNAMED and frame.height >= _HD_HEIGHT else None
    rgb = frame.reformat(width, height, "rgb24", src_colorspace=matrix, dst_color_range="JPEG")
    return np.ascontiguousarray(rgb.to_ndarray(), np.uint8)
