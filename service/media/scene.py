"""A camera's frame as it is shown: smaller, with faces blurred, or with the people, zones and lines on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np

from engines.poses import Doubles, Frame, Poses
from service.media.draw import draw
from service.tracking.zones import Line, Zone

_ZONE_COLOUR, _LINE_COLOUR = (255, 214, 10), (255, 69, 58)


def draw_scene(
    pixels: Frame,
    people: Poses,
    zones: Sequence[Zone] = (),
    lines: Sequence[Line] = (),
    *,
    faces: Doubles | None = None,
    in_place: bool = False,
) -> Frame:
    """Draw people with their ids, and zones and lines. faces, in_place: as for `draw`."""
    canvas = draw(pixels, people, labels=True, faces=faces, in_place=in_place)
    size = np.array((canvas.shape[1], canvas.shape[0]))
    for zone in zones:
        corners = np.rint(np.array(zone.polygon) * size).astype(np.int32)
        cv2.polylines(canvas, [corners], isClosed=True, color=_ZONE_COLOUR, thickness=2, lineType=cv2.LINE_AA)
    for line in lines:
        start, end = (tuple(np.rint(np.array(point) * size).astype(int).tolist()) for point in (line.start, line.end))
        cv2.line(canvas, start, end, _LINE_COLOUR, 2, cv2.LINE_AA)
    return canvas


def narrowed(pixels: Frame, width: int) -> Frame:
    """Shrink a frame to a width of at most `width` pixels. 0 leaves it as it is. Returns a new array if it shrinks."""
    if not 0 < width < pixels.shape[1]:
        return pixels
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    return cast(Frame, cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
