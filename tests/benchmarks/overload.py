"""Overload at three times the capacity of a server: python -m tests.benchmarks overload [--json FILE]

First the peak, then a quiet phase at half of it, 30 s of an open loop at three times the peak, and the quiet phase
again. All requests come from one client and name a deadline.

A small network is the hardest case, because a refusal costs the same for any network: here a tenth of serving.
With ../shared there is also a real pipeline of two networks, where admission must consider both queues.

For fairness on few cores, the load generator has its own core and the server has the others, in every phase.
Otherwise the load generator would take processor time from the server, unlike clients of a real server.
`good/cpu-s` is a second figure that does not depend on the load of the machine: answers per second of the server's
processor time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.benchmarks.goals import goal, show
from tests.benchmarks.load import Report, Shot, closed_loop, open_loop
from tests.benchmarks.report import Row, main
from tests.benchmarks.watch import Watch
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.shared import SHARED, weights_catalogue

_CROWDS = (8, 16, 32)
"""Numbers of concurrent requests. The best result is the peak."""
_QUIET, _OVERLOAD = 0.5, 3.0
"""Offered load as a share of the peak."""
_FLAT_MB_PER_MINUTE = 30.0
"""Limit of the slope over 20 s, above steps of the allocator. A leak of one body in ten is 300."""
_CROWDED = "data/coco/000000040083.jpg"
"""A photo with several people."""


@dataclass(frozen=True, slots=True)
class Task:
    """The workload. deadline: milliseconds. seconds: duration of the overload; other phases are shorter."""

    model: str
    catalogue: Path
    image: bytes
    deadline: int
    seconds: float = 30.0


def measure(task: Task) -> list[Row]:
    """Rows of the phases of one server, followed by its goals."""
    everything = {"client_share": 1}  # one address sends all of it
    with (
        _split_cores() as cores,
        ServerProcess("--model", task.model, catalogue=task.catalogue, environment=everything) as server,
    ):
        os.sched_setaffinity(0, cores)
        phases = _phases(server, task)
    return [{"model": task.model, **row} for row in (*phases, *_goals(phases, task.deadline))]


@contextmanager
def _split_cores() -> Iterator[Sequence[int]]:
    """Keep the last core free for the load generator, and give it; processes started inside run on the others.

    With one core all share it.
    """
    everywhere = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, everywhere[:-1] or everywhere)
    try:
        yield everywhere[-1:]
    finally:
        os.sched_setaffinity(0, everywhere)


def _phases(server: ServerProcess, task: Task) -> list[Row]:
    patient, shot = Shot(task.image), Shot(task.image, f"/pose?timeout_ms={task.deadline}")
    long, short = task.seconds, task.seconds / 4

    def crowd(size: int) -> Row:
        return _row(
            f"{size} at once", server, lambda: closed_loop(server.port, [patient], concurrency=size, seconds=short)
        )

    def offer(phase: str, rate: float, seconds: float) -> Row:
        return _row(phase, server, lambda: open_loop(server.port, [shot], rate=rate, seconds=seconds))

    peak = max((crowd(size) for size in _CROWDS), key=lambda row: float(row["good/s"]))
    limit = float(peak["good/s"])
    return [
        peak,
        offer("before", _QUIET * limit, short),
        offer("overload", _OVERLOAD * limit, long),
        offer("after", _QUIET * limit, short),
    ]


def _row(phase: str, server: ServerProcess, load: Callable[[], Report]) -> Row:
    with Watch(server) as watch:
        report = load()
    counts = {status: len(times) for status, times in sorted(report.latencies.items())}
    return {
        "phase": phase,
        "sent/s": round(sum(counts.values()) / report.wall, 1),
        "good/s": round(report.rate, 1),
        "p50 ms": round(report.percentile(50), 1),
        "p99 ms": round(report.percentile(99), 1),
        "statuses": counts,
        "503 p50 ms": round(report.percentile(50, 503), 1),
        "503 p99 ms": round(report.percentile(99, 503), 1),
        "server cores": round(watch.cores, 2),
        "generator cores": round(report.cpu / report.wall, 2),
        "sent late p99 ms": round(float(np.percentile(report.late, 99)) * 1e3, 1) if report.late else "",
        "good/cpu-s": round(report.good / watch.cpu, 1),
        "MB": round(max(watch.megabytes)),
        "MB/min": round(watch.slope, 1),
    }


def _goals(phases: Sequence[Row], deadline: float) -> list[Row]:
    """Compare the phases with the goals."""
    peak, before, during, after = phases
    counts = during["statuses"]
    accepted = counts.get(200, 0) + counts.get(504, 0)
    return [
        goal("goodput / peak", during["good/s"] / peak["good/s"], ">", 0.9),
        goal("p99 of accepted, ms", during["p99 ms"], "<", deadline),
        goal("accepted in vain (504), share", counts.get(504, 0) / max(1, accepted), "<", 0.01),
        goal("answers but 200, 503 and 504", sum(counts.values()) - accepted - counts.get(503, 0), "=", 0),
        goal("p99 of 503, ms", during["503 p99 ms"], "<", deadline / 10),
        goal("memory, MB/min", during["MB/min"], "<", _FLAT_MB_PER_MINUTE),
        goal("p50 after / before", after["p50 ms"] / before["p50 ms"], "<", 1.25),
    ]


def run() -> list[Row]:
    """The small network, and a real pipeline if there is one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = [Task("tiny", tiny_catalogue(folder), encoded(photo(), quality=90), deadline=500)]
        if SHARED.is_dir():
            crowded = (SHARED / _CROWDED).read_bytes()
            tasks.append(Task("tinypose-320", weights_catalogue(folder), crowded, deadline=3000))
        return [row for task in tasks for row in measure(task)]


if __name__ == "__main__":
    main(run, show)
