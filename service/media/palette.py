"""The colours of people in drawings."""

from __future__ import annotations

import colorsys
from functools import lru_cache
from typing import Literal, NamedTuple

from engines.poses import Poses

Colour = tuple[int, int, int]
Colouring = Literal["auto", "side", "identity"]
"""What colours tell apart: left and right, or people. `auto`: people, unless there is only one, without an id."""

_GOLDEN_ANGLE = 0.381966
"""Step between the hues of consecutive ids, as a fraction of a full turn. It keeps any number of hues far apart."""


class Palette(NamedTuple):
    """The colours of a person's left, right and middle keypoints. The largest channel of each is 255, see `Layer`."""

    left: Colour
    right: Colour
    middle: Colour


_SIDES = Palette(left=(255, 149, 0), right=(0, 208, 255), middle=(255, 255, 255))


def palette_of(poses: Poses, n: int, colouring: Colouring) -> Palette:
    """Return the colours of person `n`. An id keeps its hue."""
    if colouring == "side" or (colouring == "auto" and poses.ids is None and len(poses) == 1):
        return _SIDES
    return _identity(n if poses.ids is None else int(poses.ids[n]))


@lru_cache(1024)
def _identity(number: int) -> Palette:
    hue = 0.08 + number * _GOLDEN_ANGLE
    return Palette(left=_rgb(hue - 0.04, 0.9), right=_rgb(hue + 0.04, 0.5), middle=_rgb(hue, 0.7))


def _rgb(hue: float, saturation: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def colour_of(number: int) -> Colour:
    """Return the main colour of the person with an id, of trails for example."""
    return _identity(number).middle
