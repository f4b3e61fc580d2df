"""Live streams: python -m tests.benchmarks streams [--json FILE]

Fifty cameras of ten frames a second on a network of fixed service time: how old a frame is when its result leaves, what
each camera's share is, what waits, and what memory does. Then cameras that are stopped (SIGSTOP) for ten seconds: what
the server keeps meanwhile, and how old results are when the cameras continue.

Seconds of the long phase: POSEWIRE_BENCH_SECONDS, 600 for the promise; 60 by default.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from tests.benchmarks.filming import film, shoot_all
from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, main
from tests.benchmarks.watch import Watch
from tests.graphs import tiny_catalogue
from tests.servers import ServerProcess

_FLAT_MB_PER_MINUTE = 3.0
_FRESH_S = 1.0
_WINDOW = 8


@dataclass(frozen=True, slots=True)
class Crowd:
    """Identical cameras and their network. service_ms: time of a batch."""

    cameras: int = 50
    fps: float = 10.0
    service_ms: float = 30.0
    seconds: float = 60.0


def server(folder: Path, service_ms: float) -> ServerProcess:
    """A server whose network takes a fixed time for a batch."""
    environment = {"service_ms": service_ms, "log_level": "warning"}
    return ServerProcess(
        "--model", "tiny", catalogue=tiny_catalogue(folder), environment=environment, module="tests.slow_server"
    )


def crowd(task: Crowd, folder: Path) -> list[Row]:
    """Rows of measurements of a crowd, followed by its goals."""
    with server(folder, task.service_ms) as running, Watch(running) as watch:
        depths = Depths(running)
        with depths:
            rates = [task.fps] * task.cameras
            cameras = asyncio.run(shoot_all(running.port, film(), rates, task.seconds))
    ages = 1e3 * np.array([heard.age for camera in cameras for heard in camera.heard])
    shares = np.array([len(camera.heard) for camera in cameras]) / np.mean([len(camera.heard) for camera in cameras])
    served, sent = sum(len(camera.heard) for camera in cameras), sum(camera.sent for camera in cameras)
    bound = 2 * task.service_ms + 1e3 / task.fps
    row = {
        "phase": f"{task.cameras} x {task.fps:g} fps",
        "sent/s": round(sent / task.seconds, 1),
        "served/s": round(served / task.seconds, 1),
        "age p50 ms": round(float(np.percentile(ages, 50)), 1),
        "age p99 ms": round(float(np.percentile(ages, 99)), 1),
        "deepest queue": depths.deepest,
        "server cores": round(watch.cores, 2),
        "cpu ms a frame": round(1e3 * watch.cpu / served, 2),
        "MB": round(max(watch.megabytes)),
        "MB/min": round(watch.slope, 2),
    }
    return [
        row,
        goal("served / sent", served / sent, ">", 0.8),
        goal("age p99, ms", float(np.percentile(ages, 99)), "<", bound),
        goal("least share of fair", shares.min(), ">", 0.8),
        goal("largest share of fair", shares.max(), "<", 1.2),
        goal("deepest queue, frames", depths.deepest, "<", task.cameras + 1),
        goal("memory, MB/min", watch.slope, "<", _FLAT_MB_PER_MINUTE),
        goal("errors", sum(len(camera.wrong) for camera in cameras), "=", 0),
    ]


class Depths:
    """Measures the queues once a second. A context manager."""

    def __init__(self, running: ServerProcess) -> None:
        self.deepest = 0.0
        self._url = f"{running.url}/metrics"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(1.0):
            text = httpx.get(self._url, timeout=30).text
            found = re.findall(r"^posewire_queue_depth\{.*\} (\S+)$", text, re.MULTILINE)
            self.deepest = max(self.deepest, *map(float, found))


@dataclass(frozen=True, slots=True)
class Stop:
    """Cameras that are stopped for some time."""

    cameras: int = 10
    fps: float = 10.0
    seconds: float = 10.0


def stopped(task: Stop, folder: Path) -> list[Row]:
    """Rows of measurements of stopped cameras, followed by their goals."""
    with server(folder, 20.0) as running:
        command = [sys.executable, "-m", "tests.benchmarks.filming", str(running.port), str(task.fps)]
        clients = [subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(task.cameras)]
        lines: list[list[str]] = [[] for _ in clients]
        readers = [threading.Thread(target=_read, args=(each, into)) for each, into in zip(clients, lines, strict=True)]
        for reader in readers:
            reader.start()
        _until(lambda: all(len(each) > 20 for each in lines))
        before = running.memory_mb()
        heard = [len(each) for each in lines]
        with Watch(running) as watch:
            for client in clients:
                client.send_signal(signal.SIGSTOP)
            time.sleep(task.seconds)
        resumed = time.monotonic()
        for client in clients:
            client.send_signal(signal.SIGCONT)
        _until(lambda: all(len(each) > seen + 20 for each, seen in zip(lines, heard, strict=True)))
        for client, reader in zip(clients, readers, strict=True):
            client.kill()
            client.wait()
            reader.join()
    after = [[m for m in map(json.loads, each) if m["at"] > resumed] for each in lines]
    old = [sum(m["latency"] > _FRESH_S for m in each) for each in after]
    fresh = [next(m["at"] for m in each if m["latency"] < _FRESH_S) - resumed for each in after]
    row = {
        "phase": f"{task.cameras} stopped for {task.seconds:g} s",
        "MB before": round(before, 1),
        "MB at most": round(max(watch.megabytes), 1),
        "old results, most": max(old),
        "fresh after ms, worst": round(1e3 * max(fresh)),
    }
    return [
        row,
        goal("memory grown while stopped, MB", max(watch.megabytes) - before, "<", 5.0),
        goal("old results after the stop", max(old), "<", _WINDOW + 1),
        goal("seconds until fresh results", max(fresh), "<", 1.0),
    ]


def _read(client: subprocess.Popen[str], into: list[str]) -> None:
    assert client.stdout is not None
    with client.stdout as output:
        for line in output:
            into.append(line)  # noqa: PERF402 - it is read meanwhile


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    stop = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > stop:
            raise RuntimeError("cameras hear nothing")
        time.sleep(0.05)


def run() -> list[Row]:
    """Run both measurements."""
    seconds = float(os.environ.get("POSEWIRE_BENCH_SECONDS", "60"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*crowd(Crowd(seconds=seconds), folder), *stopped(Stop(), folder)]


if __name__ == "__main__":
    main(run, show)
