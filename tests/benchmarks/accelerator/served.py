"""`POST /pose` from end to end, compared with the network alone."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.benchmarks.accelerator.subjects import Subject
from tests.benchmarks.load import Shot, closed_loop
from tests.benchmarks.report import Row
from tests.pictures import encoded, photo
from tests.servers import ServerProcess

_CROWD = 64


def serve(subject: Subject, device: str, precision: str, bare: float, folder: Path, seconds: float) -> list[Row]:
    """Images per second of concurrent requests, their share of `bare`, and the median latency of single requests."""
    catalogue = subject.catalogue(folder / f"{subject.name}.toml")
    settings = {"backend": "onnxruntime", "precision": precision, "max_people": 30}
    # Random weights give low scores, so people with any score are returned.
    shot = Shot(encoded(photo(640, 480), quality=90), "/pose?min_score=0")
    with ServerProcess("--model", subject.name, catalogue=catalogue, environment=settings) as server:
        ran_on = httpx.get(f"{server.url}/models").json()[0]["device"]
        closed_loop(server.port, [shot], concurrency=_CROWD, seconds=seconds / 2)  # warms up
        crowd = closed_loop(server.port, [shot], concurrency=_CROWD, seconds=seconds)
        alone = closed_loop(server.port, [shot], concurrency=1, seconds=seconds / 2)
    if device == "cuda" and "cuda" not in ran_on:
        raise LookupError(f"the server ran its network on {ran_on}")
    row: Row = {
        "part": "serving",
        "what": f"POST /pose with {subject.name}",
        "way": f"ONNX Runtime, {_CROWD} at once",
        "images/s": round(crowd.rate, 1),
        "of bare": round(crowd.rate / bare, 3),
        "p50 alone ms": round(alone.percentile(50), 2),
        "failed": {str(status): len(times) for status, times in crowd.latencies.items() if status != 200},
    }
    return [row]
