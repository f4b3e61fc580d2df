"""What a step of load measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Kind = Literal["closed", "open", "streams"]

PARTS = ("network", "queue", "prepare", "infer", "decode", "track", "serialise")
"""The parts of a latency, in order. network: everything outside of the server's own timing, HTTP included."""


@dataclass(slots=True)
class Samples:
    """The answers of one step, as they come. latencies: seconds, from the time at which each request was due.

    late: seconds by which requests were sent after that, as far as the generator is to blame. statuses: of the answers
    that were not results, 0 for broken connections.
    """

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    dropped: int = 0
    _parts: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, latency: float, timing_ms: Mapping[str, float]) -> None:
        """Count a result. timing_ms: of the server."""
        self.latencies.append(latency)
        inside = 0.0
        for part in PARTS[1:]:
            value = timing_ms.get(part, 0.0)
            self._parts[part] += value
            inside += value
        self._parts["network"] += max(0.0, 1e3 * latency - inside)

    def parts(self) -> dict[str, float]:
        """The mean of each part in milliseconds."""
        count = max(1, len(self.latencies))
        return {part: self._parts[part] / count for part in PARTS if self._parts[part] > 0}


@dataclass(frozen=True, slots=True)
class NetworkUse:
    """A network in one step. busy: seconds of running batches in each second. batch: mean work units in a batch.

    wait_ms: mean time that an item waited for its batch.
    """

    busy: float
    batch: float
    wait_ms: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step of load. load: requests at once, requests a second, or streams. rate: results a second.

    Latencies are in milliseconds, of results alone. parts: mean milliseconds. share: of what was asked for that got a
    result. networks: from /metrics, empty if these cannot be read. late_ms: how late the generator was, p99.
    """

    kind: Kind
    load: float
    rate: float
    p50: float
    p95: float
    p99: float
    share: float
    parts: Mapping[str, float]
    statuses: Mapping[int, int] = field(default_factory=dict)
    networks: Mapping[str, NetworkUse] = field(default_factory=dict)
    late_ms: float = 0.0

    @staticmethod
    def of(kind: Kind, load: float, seconds: float, samples: Samples, networks: Mapping[str, NetworkUse]) -> Step:
        """Sum up the samples of `seconds`."""
        values = 1e3 * np.array(samples.latencies or [np.nan])
        p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99)))
        asked = len(samples.latencies) + samples.dropped + sum(samples.statuses.values())
        late = 1e3 * float(np.percentile(samples.late, 99)) if samples.late else 0.0
        return Step(
            kind,
            load,
            len(samples.latencies) / seconds,
            p50,
            p95,
            p99,
            len(samples.latencies) / max(1, asked),
            samples.parts(),
            dict(samples.statuses),
            networks,
            late,
        )

    def line(self) -> str:
        """The step as a line of the table."""
        load = {
            "closed": f"{self.load:g} at once",
            "open": f"{self.load:.1f} a second",
            "streams": f"{self.load:g} streams",
        }
        figures = (self.rate, self.p50, self.p95, self.p99, *(self.parts.get(part, 0.0) for part in PARTS))
        return _line(load[self.kind], f"{100 * self.share:.0f} %", *(f"{figure:.1f}" for figure in figures))


def heading() -> str:
    """The first line of the table."""
    return _line("load", "answered", "results/s", "p50 ms", "p95 ms", "p99 ms", *PARTS)


def _line(load: str, *cells: str) -> str:
    return f"{load:<15}" + "".join(f"{cell:>10}" for cell in cells)
