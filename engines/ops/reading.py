"""How the keypoints of one person per crop are read off a network's outputs: places in input pixels, and scores.

A reading is a description as well, so that a device that runs the network can do the same and send back no more than
the answer: see `engines.crops.device.reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from engines.inputs import Arrays
from engines.ops.flip import MIRRORED, unmirrored
from engines.ops.peaks import blurred_peaks, find_peaks, refine_dark, refine_quarter
from engines.poses import Floats

PLACES, SCORES = "places", "scores"
"""The names of outputs that a device has read already."""


def _refined(refine: Callable[[Floats, Floats], Floats]) -> Callable[[Floats], tuple[Floats, Floats]]:
    def read(heatmaps: Floats) -> tuple[Floats, Floats]:
        peaks, scores = find_peaks(heatmaps)
        return refine(heatmaps, peaks), scores

    return read


REFINEMENTS: Mapping[str, Callable[[Floats], tuple[Floats, Floats]]] = MappingProxyType(
    {"quarter": _refined(refine_quarter), "dark": _refined(refine_dark), "blurred": blurred_peaks}
)
"""(n, K, H, W) heatmaps to places in their cells (n, K, 2) and scores (n, K)."""


@dataclass(frozen=True, slots=True)
class HeatmapReading:
    """Of the first output, (n, K, H, W) heatmaps; a cell's x spans `width / W` input pixels from x times that.

    width, height: of the input. refinement: a key of REFINEMENTS. scale: makes the heatmaps' values scores in 0..1.
    pairs: the (left, right) keypoints that a mirror exchanges, where the heatmaps of the mirror image are there to be
    averaged with; shift: those are moved a cell to the right first.
    """

    width: int
    height: int
    refinement: str
    scale: float = 1.0
    pairs: tuple[tuple[int, int], ...] | None = None
    shift: bool = True

    @np.errstate(invalid="ignore", over="ignore")  # maps of NaN and infinity give nobody, and no warning
    def read(self, outputs: Arrays) -> tuple[Floats, Floats]:
        """(n, K, 2) places in input pixels and (n, K) scores."""
        name = next(iter(outputs))
        heatmaps = np.asarray(outputs[name], np.float32)
        if self.pairs is not None:
            mirrored = np.asarray(outputs[name + MIRRORED], np.float32)
            heatmaps = np.float32(0.5) * (heatmaps + unmirrored(mirrored, self.pairs, shift=self.shift))
        cells, values = REFINEMENTS[self.refinement](heatmaps)
        stride = np.array([self.width / heatmaps.shape[-1], self.height / heatmaps.shape[-2]], np.float32)
        return cells * stride, values * np.float32(self.scale)


@dataclass(frozen=True, slots=True)
class SimCCReading:
    """Of `simcc_x` (n, K, split x width) and `simcc_y` (n, K, split x height): the best bin along x and along y.

    split: bins per input pixel.
    """

    split: float = 2.0

    def read(self, outputs: Arrays) -> tuple[Floats, Floats]:
        """(n, K, 2) places in input pixels and (n, K) scores."""
        bins, scores = decode_simcc(*(np.asarray(outputs[name], np.float32) for name in SIMCC_OUTPUTS))
        return bins / np.float32(self.split), scores


SIMCC_OUTPUTS = ("simcc_x", "simcc_y")


def decode_simcc(simcc_x: Floats, simcc_y: Floats) -> tuple[Floats, Floats]:
    """The best bin along x and y: (n, K, bins x) and (n, K, bins y) to bins (n, K, 2) and scores (n, K).

    The score is the smaller of the two maxima; where it is not above 0 the bin is -1.
    """
    bins = np.stack([simcc_x.argmax(axis=-1), simcc_y.argmax(axis=-1)], axis=-1).astype(np.float32)
    scores = np.minimum(simcc_x.max(axis=-1), simcc_y.max(axis=-1))
    return np.where(scores[..., None] > 0, bins, np.float32(-1.0)), scores


Reading = HeatmapReading | SimCCReading


def already_read(outputs: Arrays) -> tuple[Floats, Floats] | None:
    """(n, K, 2) places in input pixels and (n, K) scores, where the outputs are no more than these."""
    return (outputs[PLACES], outputs[SCORES]) if PLACES in outputs else None
