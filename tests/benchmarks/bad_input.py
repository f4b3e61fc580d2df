"""10,000 bad requests among good ones: python -m tests.benchmarks bad_input [--json FILE]

Several connections send the requests of `hostile`, every third with a valid picture, while the clients of `rude` do
their worst. Every good request must get the answer that it got alone, every bad one its 4xx with a problem
document; the process must stay the same, ready, flat in memory, and must not log these as its own errors.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from service.load.connection import HttpConnection
from tests.benchmarks.goals import goal, show
from tests.benchmarks.hostile import Case, cases, good_cases
from tests.benchmarks.load import Shot, connect
from tests.benchmarks.report import Row, main
from tests.benchmarks.rude import RUDE
from tests.benchmarks.watch import Watch
from tests.graphs import tiny_catalogue
from tests.servers import ServerProcess

_COUNT = 10_000
_CONNECTIONS = 8
_PATIENCE_S = 30.0
_POLL_S = 0.1
_SAME_PIXELS = 1.0
"""Another batch size may move a point to the neighbouring heatmap cell, and no farther."""
_FLAT_MB = 10.0
"""Limit of the growth between the medians of the first and the last third. A leak of one kB per request is 15."""
SETTINGS = {"max_body_mb": 4}
"""Small, so that endless bodies reach it soon."""

People = list[dict[str, Any]]


@dataclass(slots=True)
class Tally:
    """The outcomes. statuses: by family. wrong: descriptions of wrong answers."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    unready: int = 0

    def add(self, family: str, status: int, complaint: str) -> None:
        """Count one answer."""
        self.statuses.setdefault(family, Counter())[status] += 1
        self.wrong.setdefault(family, []).extend([complaint] if complaint else [])


async def bombard(port: int, count: int, seed: int = 0) -> Tally:
    """Send `count` bad requests, half as many good ones, and a rude client for every hundredth."""
    tally = Tally()
    good = good_cases()
    reference = await answers_alone(port, good)
    mixed = _mix(count, good, seed)
    stop = asyncio.Event()

    async def polite() -> None:
        connection = await connect(port)
        for case in mixed:
            if connection.broken:
                connection = await connect(port)
            status, body = await _ask(connection, case.shot)
            tally.add(case.family, status, judge(case, status, body, reference))
        connection.close()

    async def rude() -> None:
        for turn in range(max(1, count // 100)):
            client = list(RUDE)[turn % len(RUDE)]
            status = await client(port)
            name = f"rude: {client.__name__.replace('_', ' ')}"
            tally.add(name, status, "" if status in RUDE[client] else f"answered {status}")

    probe = asyncio.create_task(_probe(port, tally, stop))
    async with asyncio.TaskGroup() as group:
        for _ in range(_CONNECTIONS):
            group.create_task(polite())
        group.create_task(rude())
    stop.set()
    await probe
    return tally


def judge(case: Case, status: int, body: bytes, reference: Mapping[bytes, People]) -> str:
    """Describe what is wrong with an answer; "" if it is right."""
    if status not in case.allowed:
        return f"{status} {body[:200]!r} for {case.shot.path[:80]} with {case.shot.body[:40].hex()}..."
    document = json.loads(body)
    if status != 200:
        proper = document["type"].startswith("/problems/") and document["status"] == status and document["detail"]
        return "" if proper else f"{document} is no problem document"
    if case.size is not None and (document["width"], document["height"]) != case.size:
        return f"a picture of {case.size} is said to have {document['width']} x {document['height']}"
    expected = reference.get(case.shot.body)
    if expected is not None and not _alike(document["people"], expected):
        return f"{document['people']} instead of {expected}"
    return ""


def _alike(people: People, others: People) -> bool:
    return len(people) == len(others) and all(
        np.allclose(one["keypoints"], other["keypoints"], rtol=0, atol=_SAME_PIXELS)
        for one, other in zip(people, others, strict=True)
    )


def _mix(count: int, good: Sequence[Case], seed: int) -> Iterator[Case]:
    """Yield the bad cases, with a good one after every second."""
    turn = itertools.cycle(good)
    for number, case in enumerate(cases(count, seed)):
        yield case
        if number % 2:
            yield next(turn)


async def _ask(connection: HttpConnection, shot: Shot) -> tuple[int, bytes]:
    async with asyncio.timeout(_PATIENCE_S):
        return await connection.ask(shot.encode())


async def answers_alone(port: int, good: Sequence[Case]) -> dict[bytes, People]:
    """The people of every valid picture, requested separately."""
    connection = await connect(port)
    answers = {case.shot.body: json.loads((await _ask(connection, case.shot))[1]) for case in good}
    connection.close()
    return {body: answer["people"] for body, answer in answers.items()}


async def _probe(port: int, tally: Tally, stop: asyncio.Event) -> None:
    """Request readiness all the time."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=5) as client:
        while not stop.is_set():
            tally.unready += (await client.get("/readyz")).status_code != 200
            await asyncio.sleep(_POLL_S)


def run() -> list[Row]:
    """Measure one server during bad requests and afterwards."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ServerProcess("--model", "tiny", catalogue=tiny_catalogue(Path(folder)), environment=SETTINGS) as server,
    ):
        asyncio.run(bombard(server.port, _COUNT // 2, seed=1))  # until memory suffices for the largest pictures
        files = server.open_files()
        before = _failures(server)
        with Watch(server) as watch:
            tally = asyncio.run(bombard(server.port, _COUNT))
        time.sleep(1)  # connections that were not closed would still be open
        rows = [_row(family, tally) for family in sorted(tally.statuses)]
        failures = _failures(server) - before - sum(counts[504] for counts in tally.statuses.values())
        return [*rows, *_goals(server, tally, watch, files, failures)]


def _row(family: str, tally: Tally) -> Row:
    counts = tally.statuses[family]
    return {
        "family": family,
        "requests": counts.total(),
        "statuses": dict(sorted(counts.items())),
        "wrong": len(tally.wrong[family]),
        "for example": " ".join(tally.wrong[family][:1])[:300],
    }


def _failures(server: ServerProcess) -> float:
    """The number of 5xx in the server's metrics."""
    return _sum(server, r'^posewire_requests_total{.*status="5.."} (\S+)$')


def _sum(server: ServerProcess, pattern: str) -> float:
    return sum(float(n) for n in re.findall(pattern, httpx.get(f"{server.url}/metrics").text, re.MULTILINE))


def _goals(server: ServerProcess, tally: Tally, watch: Watch, files: int, failures: float) -> list[Row]:
    restarts = _sum(server, r"^posewire_worker_restarts_total{.*} (\S+)$")
    return [
        goal("answers that are wrong", sum(len(wrong) for wrong in tally.wrong.values()), "=", 0),
        goal("5xx but 504 for who sends too slowly", failures, "=", 0),
        goal("error lines in its log", sum('"level":"error"' in line for line in server.log), "=", 0),
        goal("times that it was not ready", tally.unready, "=", 0),
        goal("processes that ended", int(server.process.poll() is not None), "=", 0),
        goal("worker threads that ended", restarts, "=", 0),
        goal("files left open", server.open_files() - files, "<", 3),
        goal("memory, MB more at the end", watch.growth, "<", _FLAT_MB),
    ]


if __name__ == "__main__":
    main(run, show)
