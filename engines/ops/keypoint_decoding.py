"""Decodes the keypoints of one person per crop from a network's outputs: positions in input pixels, and scores.

A decoder also describes the computation, so that a device that runs the network can do it and return only the result:
see `engines.crops.device.keypoints`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engines.inputs import Arrays
from engines.ops.flip import MIRRORED, unmirrored
from engines.ops.peaks import blurred_peaks, find_peaks, refine_dark, refine_quarter, refine_udp
from engines.poses import Floats

POSITIONS, SCORES = "positions", "scores"
"""The names of the outputs when a device has already decoded them."""


REFINEMENTS = ("quarter", "dark", "blurred", "udp")
"""Ways to find a peak to a fraction of a cell, see `engines.ops.peaks`."""

SIMCC_OUTPUTS = ("simcc_x", "simcc_y")
"""The outputs of a SimCC network, as MMDeploy names them."""

_REFINE = {"quarter": refine_quarter, "dark": refine_dark, "udp": refine_udp}


def _peaks(heatmaps: Floats, refinement: str) -> tuple[Floats, Floats]:
    """(n, K, H, W) heatmaps to positions (n, K, 2) in cells and scores (n, K)."""
    if refinement == "blurred":
        return blurred_peaks(heatmaps)
    peaks, scores = find_peaks(heatmaps)
    return _REFINE[refinement](heatmaps, peaks), scores


@dataclass(frozen=True, slots=True)
class HeatmapDecoder:
    """Decodes the first output, (n, K, H, W) heatmaps whose cells are `width / W` input pixels wide.

    With refinement "udp" the outermost cells belong to the outermost pixels: they are `(width - 1) / (W - 1)` wide.
    width, height: of the input. refinement: one of REFINEMENTS. scale: multiplies the heatmaps' values into scores in
    0..1. pairs: for the flip test, the (left, right) keypoints to swap in the heatmaps of the mirror image, which are
    then averaged with the others. shift: move those of the mirror image one cell to the right first.
    """

    width: int
    height: int
    refinement: str
    scale: float = 1.0
    pairs: tuple[tuple[int, int], ...] | None = None
    shift: bool = True

    @np.errstate(invalid="ignore", over="ignore")  # maps of NaN and infinity give no keypoints, without a warning
    def decode(self, outputs: Arrays) -> tuple[Floats, Floats]:
        """(n, K, 2) positions in input pixels and (n, K) scores."""
        name = next(iter(outputs))
        heatmaps = np.asarray(outputs[name], np.float32)
        if self.pairs is not None:
            mirrored = np.asarray(outputs[name + MIRRORED], np.float32)
            heatmaps = np.float32(0.5) * (heatmaps + unmirrored(mirrored, self.pairs, shift=self.shift))
        cells, values = _peaks(heatmaps, self.refinement)
        stride = np.array(self.strides(heatmaps.shape[-1], heatmaps.shape[-2]), np.float32)
        return cells * stride, values * np.float32(self.scale)

    def strides(self, columns: int, rows: int) -> tuple[float, float]:
        """The distance between cells in input pixels, along x and along y, of maps with these sides."""
        edge = 1 if self.refinement == "udp" else 0
        return (self.width - edge) / max(columns - edge, 1), (self.height - edge) / max(rows - edge, 1)


@dataclass(frozen=True, slots=True)
class SimCCDecoder:
    """Decodes outputs (n, K, split x width) and (n, K, split x height): the best bin along x and along y.

    split: bins per input pixel. names: of the outputs for x and for y.
    """

    split: float = 2.0
    names: tuple[str, ...] = SIMCC_OUTPUTS

    def decode(self, outputs: Arrays) -> tuple[Floats, Floats]:
        """(n, K, 2) positions in input pixels and (n, K) scores."""
        bins, scores = decode_simcc(*(np.asarray(outputs[name], np.float32) for name in self.names))
        return bins / np.float32(self.split), scores


def decode_simcc(simcc_x: Floats, simcc_y: Floats) -> tuple[Floats, Floats]:
    """The best bins along x and y: (n, K, bins x) and (n, K, bins y) to bins (n, K, 2) and scores (n, K).

    The score is the smaller of the two maxima; if it is not above 0, the bin is -1.
    """
    bins = np.stack([simcc_x.argmax(axis=-1), simcc_y.argmax(axis=-1)], axis=-1).astype(np.float32)
    scores = np.minimum(simcc_x.max(axis=-1), simcc_y.max(axis=-1))
    return np.where(scores[..., None] > 0, bins, np.float32(-1.0)), scores


KeypointDecoder = HeatmapDecoder | SimCCDecoder


def decoded_on_device(outputs: Arrays) -> tuple[Floats, Floats] | None:
    """(n, K, 2) positions in input pixels and (n, K) scores if a device has decoded the outputs, else None."""
    return (outputs[POSITIONS], outputs[SCORES]) if POSITIONS in outputs else None
