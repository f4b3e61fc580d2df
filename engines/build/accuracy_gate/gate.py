"""The accuracy gate: whether a graph in another precision, or a plan of it, still finds the same people as in fp32.

Both run the same crops, the model's family decodes their outputs, and the results are compared: keypoints found by both
by their positions, keypoints found by only one by their number; boxes likewise. If fp32 finds nobody, as in images
without people, the raw outputs are compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from engines.build.accuracy_gate.agreement import Tally, finite, relative_difference
from engines.build.crop_decoder import CropDecoder
from engines.build.precision.convert import Precision
from engines.inputs import Arrays

Run = Callable[[Arrays], Arrays]
"""A compiled graph: `Runtime.run`."""
Candidate = TypeVar("Candidate")

FALLBACKS: dict[Precision, tuple[Precision, ...]] = {
    "int8": ("int8", "fp16", "bf16", "fp32"),
    "fp16": ("fp16", "bf16", "fp32"),
    "bf16": ("bf16", "fp32"),
    "fp32": ("fp32",),
}
"""The precisions tried for each requested one, in order. bf16 has a shorter mantissa than fp16, but fp32's exponent
range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Differences from fp32, or upper limits of them. All are shares, 0..1.

    distance: the mean distance of keypoints that both found, relative to the crop's longer side (for boxes: the mean
    shift of the edges, relative to the box). far: the share of them that are more than FAR apart.
    lost, gained: keypoints or boxes found only by fp32, or only by the candidate, relative to those found by fp32.
    score: the mean difference of scores. outputs: see `agreement.relative_difference`.
    """

    distance: float
    far: float
    lost: float
    gained: float
    score: float
    outputs: float


ROUNDING = Differences(distance=0.004, far=0.02, lost=0.02, gained=0.02, score=0.02, outputs=0.3)
"""For fp16 and bf16, which must not be noticeable in results. Heatmaps with a stride of 4 at 256 pixels are decoded to
a quarter of a cell: one pixel, or 0.004. Measured on real crops: Simple Pose has a distance of 0.0002 in fp16 and
of 0.0018 in bf16, with a score of 0.007 and an unchanged AP; RTMDet-nano 0.0003 and 0.003. Raw outputs differ by more,
because most of a heatmap is near 0: 0.2 in bf16."""
TRADE = Differences(distance=0.012, far=0.06, lost=0.05, gained=0.05, score=0.05, outputs=0.6)
"""For int8, which trades accuracy for speed; its limits are 2 to 3 times those of ROUNDING. Measured on Simple
Pose, a small network that is hard to quantise: a distance of 0.0038, or 0.0047 with symmetric activations; bad scales
that cost 0.08 AP had 0.016."""
LIMITS: dict[Precision, Differences] = {"int8": TRADE, "fp16": ROUNDING, "bf16": ROUNDING, "fp32": ROUNDING}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport(Differences):
    """The result for one candidate. failures: the limits it exceeded, in plain words; empty if it passed.

    crops: the number of crops. compared: the number of keypoints or boxes that fp32 found; 0 makes all differences but
    that of the outputs 0.
    """

    precision: Precision
    crops: int
    compared: int
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"passed": self.passed})

    def __str__(self) -> str:
        verdict = "passed" if self.passed else f"refused: {'; '.join(self.failures)}"
        return f"{self.precision} {verdict} ({self.crops} crops, {self.compared} compared)"


def compare(
    reference: Run,
    candidate: Run,
    batches: Sequence[Arrays],
    decode: CropDecoder,
    precision: Precision,
    *,
    dense: bool = True,
    limits: Differences | None = None,
) -> GateReport:
    """Run `batches` through the fp32 graph and the candidate and measure their differences.

    NaN and infinity always fail. decode: see `engines.build.crop_decoder.crop_decoder`.
    dense: the outputs are maps and vectors whose positions are meaningful, not lists of candidates.
    limits: by default those of `precision`.
    Raises ValueError without any crops.
    """
    if not batches:
        raise ValueError("the accuracy gate needs crops to compare on")
    limits = limits or LIMITS[precision]
    tally = Tally()
    outputs, crops, broken = [0.0], 0, False
    for feeds in batches:
        crops += len(next(iter(feeds.values())))
        expected, given = reference(feeds), candidate(feeds)
        broken = not finite(given)
        if broken:
            break
        outputs.append(relative_difference(expected, given, ordered=dense))
        for want, have in zip(decode(expected), decode(given), strict=True):
            tally.add(want, have)
    figures = tally.figures() | {"outputs": float(np.max(outputs))}
    failures = ["it gives values that are no numbers"] if broken else _broken(figures, limits, tally.compared)
    rounded = {name: round(value, 5) for name, value in figures.items()}
    return GateReport(precision=precision, crops=crops, compared=tally.compared, failures=tuple(failures), **rounded)


def choose(
    asked: Precision, build: Callable[[Precision], Candidate], judge: Callable[[Precision, Candidate], GateReport]
) -> tuple[Candidate, tuple[GateReport, ...]]:
    """Return the first candidate of FALLBACKS that passes, and the reports.

    Reports on all candidates judged. fp32 is the reference and is not judged; when it is chosen, the last report, if
    any, is of a rejected candidate.
    """
    reports: list[GateReport] = []
    for precision in FALLBACKS[asked][:-1]:
        candidate = build(precision)
        reports.append(judge(precision, candidate))
        if reports[-1].passed:
            return candidate, tuple(reports)
    return build("fp32"), tuple(reports)


def _broken(figures: dict[str, float], limits: Differences, compared: int) -> list[str]:
    names = ("distance", "far", "lost", "gained", "score") if compared else ("gained", "outputs")
    bounds = asdict(limits)
    return [
        f"{name} {figures[name]:.4f} is above {bounds[name]:g}"
        for name in names
        if not figures[name] <= bounds[name]  # NaN is not below any limit
    ]
