"""A heat map of presence: for how long people stood where."""

from __future__ import annotations

import math

import cv2
import numpy as np

from engines.poses import Frame, Poses
from service.tracking.places import feet

_CELLS = 160
"""Cells along the longer side of the frame."""
_LONGEST_STEP_S = 1.0
"""The most time between two frames. What happened in a longer gap is not known."""
_OPACITY = 0.7
"""Of the places where people were longest."""
_FADE_BELOW = 0.15
"""Places with less than this part of the longest time fade out."""


class HeatMap:
    """The seconds that people stood at each place of frames of `width` x `height` pixels.

    A person stands on an ellipse around the middle of the box's lower edge, as wide as half the box.
    """

    def __init__(self, width: int, height: int) -> None:
        self._cell = max(width, height) / _CELLS
        self.seconds = np.zeros((math.ceil(height / self._cell), math.ceil(width / self._cell)), np.float32)
        self._last = math.nan

    def update(self, poses: Poses, timestamp: float) -> None:
        """Add the people of a frame at `timestamp` seconds. Each counts until the next frame."""
        step = timestamp - self._last
        self._last = timestamp
        step = min(step, _LONGEST_STEP_S) if step > 0 else 0.0
        for (x, y), (left, _, right, _) in zip(feet(poses).tolist(), poses.boxes.tolist(), strict=True):
            radius = max(1.0, (right - left) / 4 / self._cell)
            if step and math.isfinite(x + y + radius):
                self._add(x / self._cell, y / self._cell, min(radius, _CELLS / 4), step)

    def _add(self, x: float, y: float, radius: float, seconds: float) -> None:
        """Add an ellipse with soft edges that is twice as wide as it is high, like a circle on the floor."""
        rows, columns = self.seconds.shape
        left, right = (int(np.clip(x + side * 2 * radius, 0, columns)) for side in (-1, 1))
        top, bottom = (int(np.clip(y + side * radius, 0, rows)) for side in (-1, 1))
        across = (np.arange(left, right + 1)[None, :columns] + 0.5 - x) / radius
        down = (np.arange(top, bottom + 1)[:, None] + 0.5 - y) / (radius / 2)
        part = self.seconds[top : bottom + 1, left : right + 1]
        part += seconds * np.exp(-(across**2 + down**2))[: part.shape[0], : part.shape[1]]

    def lay(self, canvas: Frame) -> None:
        """Draw the map over a frame of its size, in place: from blue, briefly, to red, longest."""
        most = float(self.seconds.max())
        if most <= 0:
            return
        share = np.sqrt(self.seconds / most)  # otherwise one person at rest would hide all others
        colours = cv2.cvtColor(cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
        opacity = (_OPACITY * np.clip(share / _FADE_BELOW - 0.2, 0, 1))[..., None].astype(np.float32)
        size = canvas.shape[1], canvas.shape[0]
        light = cv2.resize((colours * opacity).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
        kept = cv2.resize((255 * (1 - opacity)).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
        canvas[:] = cv2.add(cv2.multiply(canvas, cv2.cvtColor(kept, cv2.COLOR_GRAY2RGB), scale=1 / 255), light)
