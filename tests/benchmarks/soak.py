"""Half an hour of all workloads: python -m tests.benchmarks soak [--minutes N] [--json FILE]

Two replicas behind HAProxy with Redis, one server where one of these is missing. Good stills with bad ones among them,
streams that stay and streams that come, go and come back, and a replica that is restarted during the warm-up. The
network reads from its pictures who is where, so every answer and every identity is checked.

Each replica's processes are looked at once a second. The warm-up is the first sixth, and at least 45 s. After it memory
must not grow: the Theil-Sen slope (the median of the slopes through all pairs of points) through the medians of ten
seconds each is below 1 MB in ten minutes. Runs under 20 minutes are too short for that: there the median of the last
third is at most 70 MB above that of the first. Descriptors, threads and shared memory are compared in the latter way.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

import numpy as np

from tests.benchmarks.attacks.deployments import Deployment, deployed
from tests.benchmarks.bad_input import answers_alone, judge
from tests.benchmarks.churn import Visitor
from tests.benchmarks.goals import goal, show
from tests.benchmarks.hostile import Case, cases, good_cases
from tests.benchmarks.load import connect
from tests.benchmarks.report import Row, machine
from tests.deployment.crowd import Crowd
from tests.deployment.marked import marked_catalogue
from tests.deployment.programs import find

_WARM_SHARE, _WARM_S = 1 / 6, 45.0
_RESTART = 0.4
"""Share of the warm-up after which a replica is restarted."""
_BIN_S = 10.0
_SLOPE_MB, _SLOPE_MINUTES, _LONG_MINUTES = 1.0, 10.0, 20.0
_GROWTH_MB = 70.0
"""In a short run, which cannot tell what is first needed late from a leak: each decoder process imports OpenCV (30 MB)
when its first large JPEG comes, which may be late."""
_CAMERAS, _ASKERS, _VISITORS = 4, 3, 4
_BAD_A_SECOND = 8.0
_TRY_AGAIN = frozenset({0, 429, 502, 503})
"""Statuses of images while a replica restarts, after which clients retry."""
_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources of a replica's processes at one time. memory, shared: resident and of memory files, megabytes."""

    memory: float
    files: int
    threads: int
    shared: float


class Watcher:
    """Measures every replica once a second; a context manager. usages: of each replica since its last start."""

    def __init__(self, deployment: Deployment) -> None:
        self.usages: list[list[tuple[float, Usage]]] = [[] for _ in deployment.groups]
        self._deployment = deployment
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="soak-watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            for usages, group in zip(self.usages, self._deployment.groups, strict=True):
                usages.append((time.monotonic(), usage_of(group.pids())))


def usage_of(pids: Sequence[int]) -> Usage:
    """Measure the resources of these processes. A process that ends meanwhile counts as nothing."""
    memory, files, threads = 0.0, 0, 0
    shared: dict[tuple[int, int], float] = {}
    for process in (Path(f"/proc/{pid}") for pid in pids):
        with suppress(OSError):
            status = dict(
                line.split(":", 1) for line in (process / "status").read_text("utf-8").splitlines() if ":" in line
            )
            memory += float(status.get("VmRSS", "0 kB").split()[0]) / 1e3
            threads += int(status["Threads"])
            for descriptor in (process / "fd").iterdir():
                files += 1
                with suppress(OSError):
                    if str(descriptor.readlink()).startswith("/memfd:"):
                        about = descriptor.stat()
                        shared[about.st_dev, about.st_ino] = about.st_blocks * 512 / 1e6
    return Usage(memory, files, threads, sum(shared.values()))


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """The median of the slopes through all pairs of points; NaN for fewer than two."""
    pairs = itertools.combinations(zip(times, values, strict=True), 2)
    slopes = [(b - a) / (later - earlier) for (earlier, a), (later, b) in pairs]
    return float(np.median(slopes)) if slopes else float("nan")


@dataclass(slots=True)
class Mixed:
    """Sends bad and good images. wrong: descriptions of wrong answers."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def run(self, port: int, stop: asyncio.Event) -> None:
        """Send images until told to stop."""
        good = good_cases()
        alone = await answers_alone(port, good)
        connection = await connect(port)
        for case in _endless(good):
            if stop.is_set():
                break
            began, status = time.monotonic(), 0
            while status in _TRY_AGAIN and time.monotonic() < began + _TIMEOUT_S:
                if connection.broken:
                    connection = await connect(port)
                try:
                    async with asyncio.timeout(_TIMEOUT_S):
                        status, body = await connection.ask(case.shot.encode())
                except TimeoutError:
                    connection.close()
                    connection = await connect(port)
                if status in _TRY_AGAIN:
                    await asyncio.sleep(0.2)
            self.statuses[status] += 1
            if complaint := judge(case, status, body if status else b"", alone):
                self.wrong.append(complaint)
            await asyncio.sleep(max(0.0, began + 1 / _BAD_A_SECOND - time.monotonic()))
        connection.close()


def _endless(good: Sequence[Case]) -> Iterator[Case]:
    turn = itertools.cycle(good)
    for seed in itertools.count():
        for case in cases(1000, seed):
            yield case
            yield next(turn)


@dataclass(frozen=True, slots=True)
class Soaked:
    """All results and measurements. start: start of the evaluated part, in monotonic seconds."""

    crowd: Crowd
    visitors: Sequence[Visitor]
    mixed: Mixed
    watcher: Watcher
    start: float
    minutes: float


async def soak(deployment: Deployment, minutes: float) -> Soaked:
    """Load a deployment, and restart one of its replicas if it has several."""
    warm = max(60 * minutes * _WARM_SHARE, _WARM_S)
    url = f"http://{deployment.host}:{deployment.port}"
    stop, mixed = asyncio.Event(), Mixed()
    visitors = [Visitor(url.replace("http", "ws", 1), seed) for seed in range(_VISITORS)]
    began = time.monotonic()
    with Watcher(deployment) as watcher:
        async with (
            Crowd(url, cameras=_CAMERAS, askers=_ASKERS, fps=2.0, rate=1.0) as crowd,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(mixed.run(deployment.port, stop))
            for visitor in visitors:
                group.create_task(visitor.run(stop))
            await asyncio.sleep(_RESTART * warm)
            if deployment.fleet is not None:
                await asyncio.to_thread(_restart, deployment)
                watcher.usages[-1].clear()
            await asyncio.sleep(began + max(60 * minutes, warm) - time.monotonic())
            stop.set()
    return Soaked(crowd, visitors, mixed, watcher, began + warm, minutes)


def _restart(deployment: Deployment) -> None:
    """Shut down the last replica gracefully, and start it again."""
    assert deployment.fleet is not None
    deployment.fleet.replicas[-1].process.send_signal(signal.SIGTERM)
    deployment.fleet.replicas[-1].process.wait(60)
    deployment.fleet.mend()
    deployment.groups[-1].attach(deployment.fleet.replicas[-1].process.pid)


def judged(soaked: Soaked) -> list[Row]:
    """Rows of the resources of each replica, followed by the goals."""
    rows: list[Row] = []
    goals: list[Row] = []
    for number, usages in enumerate(soaked.watcher.usages):
        counted = [(at, each) for at, each in usages if at >= soaked.start]
        times = [at for at, _ in counted]
        columns = {f.name: [float(getattr(each, f.name)) for _, each in counted] for f in fields(Usage)}
        name = f"replica {number + 1}"
        slope = _slope(times, columns["memory"])
        growth = {what: _growth(values) for what, values in columns.items()}
        rows.append(
            {
                "replica": number + 1,
                "seconds": round(times[-1] - times[0]),
                "memory MB": round(float(np.median(columns["memory"])), 1),
                "MB in 10 minutes": round(slope, 2),
                "files": float(np.median(columns["files"])),
                "threads": float(np.median(columns["threads"])),
                "shared MB": round(float(np.median(columns["shared"])), 1),
                **{f"{what} grown": round(grown, 1) for what, grown in growth.items()},
            }
        )
        if soaked.minutes >= _LONG_MINUTES:
            goals.append(goal(f"{name}: memory, MB in 10 minutes", slope, "<", _SLOPE_MB))
        else:
            goals.append(goal(f"{name}: memory grown, MB", growth["memory"], "<", _GROWTH_MB))
        goals += [
            goal(f"{name}: descriptors grown", growth["files"], "<", 6),
            goal(f"{name}: threads grown", growth["threads"], "<", 2),
            goal(f"{name}: shared memory grown, MB", growth["shared"], "<", 2),
        ]
    return [*rows, *goals, *_heard(soaked)]


def _slope(times: Sequence[float], values: Sequence[float]) -> float:
    """The slope in megabytes per ten minutes, through medians of ten seconds."""
    bins = np.array(times) // _BIN_S
    medians = [float(np.median(np.array(values)[bins == each])) for each in np.unique(bins)]
    return theil_sen([_BIN_S * float(each) for each in np.unique(bins)], medians) * 60 * _SLOPE_MINUTES


def _growth(values: Sequence[float]) -> float:
    """The growth between the medians of the first and the last third."""
    third = max(1, len(values) // 3)
    return float(np.median(values[-third:]) - np.median(values[:third]))


def _heard(soaked: Soaked) -> list[Row]:
    cameras, askers, visitors = soaked.crowd.cameras, soaked.crowd.askers, soaked.visitors
    for complaint in soaked.mixed.wrong[:3]:
        print(f"wrong: {complaint}", file=sys.stderr)
    for why, count in Counter(why for visitor in visitors for why in visitor.refused).items():
        print(f"not resumed: {count} times: {why}", file=sys.stderr)
    return [
        {"heard": "results of streams that stay", "count": sum(camera.heard for camera in cameras)},
        {"heard": "sessions of these", "count": sum(visitor.sessions for visitor in visitors)},
        {"heard": "resumed", "count": sum(visitor.resumed for visitor in visitors)},
        {"heard": "good stills", "count": sum(asker.answered for asker in askers)},
        {"heard": "bad and other stills", "count": soaked.mixed.statuses.total()},
        goal("people known in each stream that stays", min(len(camera.known) for camera in cameras), "=", 3),
        goal("results of streams that come and go", min(visitor.results for visitor in visitors), ">", 0),
        goal("identities lost, streams that stay", sum(camera.lost for camera in cameras), "=", 0),
        goal("identities lost, streams that come and go", sum(visitor.lost for visitor in visitors), "=", 0),
        goal("streams that ended", sum(bool(camera.problem) for camera in cameras), "=", 0),
        goal("sessions that did not go on", sum(len(visitor.refused) for visitor in visitors), "=", 0),
        goal("connections without results", sum(visitor.silent for visitor in visitors), "=", 0),
        goal("good stills failed", sum(len(asker.failures) + asker.wrong for asker in askers), "=", 0),
        goal("answers that are wrong", len(soaked.mixed.wrong), "=", 0),
    ]


def main() -> int:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="how long; 30")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    both = find("haproxy") is not None and find("redis-server") is not None
    if not both:
        print("HAProxy or Redis is missing: one server, and no restart", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory() as folder,
        deployed(
            "haproxy" if both else "direct", "--model", "marked", catalogue=marked_catalogue(Path(folder))
        ) as deployment,
    ):
        rows = judged(asyncio.run(soak(deployment, options.minutes)))
    print(machine())
    print(show(rows))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", "utf-8")
    return int(not all(row.get("holds", True) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
