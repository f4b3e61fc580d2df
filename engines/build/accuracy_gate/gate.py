"""The accuracy gate: whether a graph in another precision, or a plan of it, still finds the same people as in fp32.

Both run the same crops, their family reads what they give, and the answers are compared: keypoints that both are sure
of by where they are, those that only one is sure of by counting them; boxes likewise. Where fp32 itself finds nobody,
as in pictures without people, the outputs are compared as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np

from engines.build.accuracy_gate.agreement import Tally, finite, relative_difference
from engines.build.precision.convert import Precision
from engines.families.reading import Read
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
"""What is tried, in order, for each precision asked for: bf16 has fewer digits than fp16, but fp32's range."""


@dataclass(frozen=True, slots=True)
class GateLimits:
    """What passes. All are shares, 0..1.

    distance: the mean distance of keypoints that both have found, and far: the share of them that are more than FAR
    apart; of a crop's longer side (of boxes: by how much of the box its edges have moved).
    lost, gained: keypoints or boxes that only the one has found, of all that fp32 has found.
    score: the mean difference of scores. outputs: root mean square of an output's difference, of that of the output.
    """

    distance: float
    far: float
    lost: float
    gained: float
    score: float
    outputs: float


ROUNDING = GateLimits(distance=0.004, far=0.02, lost=0.02, gained=0.02, score=0.02, outputs=0.3)
"""For fp16 and bf16, which must not be seen in results. Heatmaps with a cell for 4 pixels of 256 are read to a quarter
of a cell, and 0.004 is that pixel. Measured on real crops: Simple Pose in fp16 has a distance of 0.0002, in bf16 0.0018
and a score of 0.007, at an AP that does not change; RTMDet-nano 0.0003 and 0.003. Outputs say less than answers, as
most of a heatmap is near 0: bf16 has 0.2 there."""
TRADE = GateLimits(distance=0.012, far=0.06, lost=0.05, gained=0.05, score=0.05, outputs=0.6)
"""For int8, asked for by somebody who gives some accuracy for speed: three times as much. Measured on Simple Pose, a
small network that is hard to quantise: 0.0038, and 0.0047 around 0; scales that cost it 0.08 of its AP had 0.016."""
LIMITS: dict[Precision, GateLimits] = {"int8": TRADE, "fp16": ROUNDING, "bf16": ROUNDING, "fp32": ROUNDING}


@dataclass(frozen=True, slots=True)
class GateReport:
    """What one candidate gave. failures: which limits it broke, in plain words; none: it passed.

    crops: how many were compared. compared: keypoints or boxes that fp32 is sure of. The others are as in `GateLimits`;
    where nothing is to be compared they are 0.
    """

    precision: Precision
    crops: int
    compared: int
    distance: float
    far: float
    lost: float
    gained: float
    score: float
    outputs: float
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the candidate may be used."""
        return not self.failures

    def to_json(self) -> str:
        """As one JSON object, for a manifest."""
        return json.dumps(asdict(self) | {"passed": self.passed})

    def __str__(self) -> str:
        verdict = "passed" if self.passed else f"refused: {'; '.join(self.failures)}"
        return f"{self.precision} {verdict} ({self.crops} crops, {self.compared} compared)"


def compare(
    reference: Run,
    candidate: Run,
    batches: Sequence[Arrays],
    read: Read,
    precision: Precision,
    *,
    dense: bool = True,
    limits: GateLimits | None = None,
) -> GateReport:
    """Run `batches` through the fp32 graph and the candidate and say how far they are apart.

    NaN and infinity are never let pass. read: see `engines.families.reading.reader`.
    dense: the outputs are maps and vectors whose places mean something, not lists of candidates.
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
        for want, have in zip(read(expected), read(given), strict=True):
            tally.add(want, have)
    figures = tally.figures() | {"outputs": float(np.max(outputs))}
    failures = ["it gives values that are no numbers"] if broken else _broken(figures, limits, tally.compared)
    rounded = {name: round(value, 5) for name, value in figures.items()}
    return GateReport(precision, crops, tally.compared, **rounded, failures=tuple(failures))


def choose(
    asked: Precision, build: Callable[[Precision], Candidate], judge: Callable[[Precision, Candidate], GateReport]
) -> tuple[Candidate, tuple[GateReport, ...]]:
    """The first of FALLBACKS that passes, and the reports on all that were tried: the last is that of the one chosen.

    fp32 needs no judging: it is what the others are held against.
    """
    reports: list[GateReport] = []
    for precision in FALLBACKS[asked][:-1]:
        candidate = build(precision)
        reports.append(judge(precision, candidate))
        if reports[-1].passed:
            return candidate, tuple(reports)
    return build("fp32"), tuple(reports)


def _broken(figures: dict[str, float], limits: GateLimits, compared: int) -> list[str]:
    names = ("distance", "far", "lost", "gained", "score") if compared else ("gained", "outputs")
    bounds = asdict(limits)
    return [
        f"{name} {figures[name]:.4f} is above {bounds[name]:g}"
        for name in names
        if not figures[name] <= bounds[name]  # neither is what is no number
    ]
