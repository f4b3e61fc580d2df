"""More replicas behind HAProxy: python -m tests.benchmarks replicas [--json FILE]

Each replica's network takes a fixed time for a batch and no processor time, as an accelerator would, so that it is the
limit and not the cores of this machine. The same number of clients asks 1, 2 and 4 replicas. Then one client asks one
replica directly and through HAProxy, alternating. The difference is what HAProxy adds.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from tests.benchmarks.goals import goal, show
from tests.benchmarks.load import Report, Shot, closed_loop
from tests.benchmarks.report import Row, main
from tests.deployment.fleet import Fleet
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo

_SIZES = (1, 2, 4)
_BATCH, _BATCH_MS = 4, 200
"""The capacity of a replica: 20 images per second, for a tenth of a core."""
_CLIENTS = 48
_SECONDS = 10.0
_ROUNDS, _ROUND_S = 8, 1.0


def _fleet(size: int, catalogue: Path, batch_ms: float) -> Fleet:
    environment = {"service_ms": batch_ms, "service_batch": _BATCH, "timeout_ms": 60_000}
    return Fleet(
        size, "--model", "tiny", catalogue=catalogue, environment=environment, module="tests.slow_server"
    )  # fmt: skip


def scaling(catalogue: Path, shot: Shot) -> list[Row]:
    """Images per second of fleets of several sizes."""
    rows: list[Row] = []
    for size in _SIZES:
        with _fleet(size, catalogue, _BATCH_MS) as fleet:
            closed_loop(fleet.port, [shot], concurrency=_CLIENTS, seconds=_SECONDS / 4)  # until all are warm
            report = closed_loop(fleet.port, [shot], concurrency=_CLIENTS, seconds=_SECONDS)
        alone = rows[0]["images/s"] if rows else report.rate
        failed = sum(len(times) for status, times in report.latencies.items() if status != 200)
        rows.append(
            {
                "replicas": size,
                "images/s": round(report.rate, 1),
                "of linear": round(report.rate / alone / size, 3),
                "p50 ms": round(report.percentile(50), 1),
                "failed": failed,
            }
        )
    return rows


def added(catalogue: Path, shot: Shot) -> list[Row]:
    """Latency with and without HAProxy, one request at a time; medians of alternating rounds."""
    medians: dict[str, list[float]] = {"direct": [], "HAProxy": []}
    with _fleet(1, catalogue, 0) as fleet:
        [replica] = fleet.replicas

        def ask(port: int, host: str) -> Report:
            return closed_loop(port, [shot], concurrency=1, seconds=_ROUND_S, host=host)

        for _ in range(_ROUNDS):
            medians["direct"].append(ask(replica.port, replica.host).percentile(50))
            medians["HAProxy"].append(ask(fleet.port, "127.0.0.1").percentile(50))
    return [{"way": way, "p50 ms": round(statistics.median(values), 3)} for way, values in medians.items()]


def run() -> list[Row]:
    """Run both, and compare them with the goals."""
    shot = Shot(encoded(photo(160, 120), quality=80))
    with tempfile.TemporaryDirectory() as name:
        catalogue = tiny_catalogue(Path(name))
        fleets, ways = scaling(catalogue, shot), added(catalogue, shot)
    return [
        *fleets,
        *ways,
        *(goal(f"{row['replicas']} replicas, of linear", row["of linear"], ">", 0.9) for row in fleets[1:]),
        goal("requests that failed", sum(row["failed"] for row in fleets), "=", 0),
        goal("p50 that HAProxy adds, ms", ways[1]["p50 ms"] - ways[0]["p50 ms"], "<", 1.0),
    ]


if __name__ == "__main__":
    main(run, show)
