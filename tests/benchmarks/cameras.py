"""Cameras that the server opens itself: python -m tests.benchmarks cameras [--minutes N] [--json FILE]

Eight RTSP cameras of 640x480 at 10 frames a second, each a server of its own, are served with a network of fixed
service time (issue 17, goal 1): N minutes of peace, then shorter phases in which the last camera dies, hangs, and sends
garbage. A row is a phase; its figures are those of the good cameras. `age` is from a frame's arrival to its result.

fps least, most: results a second of the camera with the fewest and the most. age p99: of all results together, and of
the worst camera. lost: how often a camera was, the bad one included. MB, readers MB: resident memory of the server and
of all processes that read cameras.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, machine
from tests.benchmarks.watch import Watch
from tests.graphs import tiny_catalogue
from tests.rtsp_cameras import noise, rtsp_process, scripted_rtsp
from tests.servers import ServerProcess
from tests.streaming import watch as watch_camera
from tests.waiting import wait_for

_SIZE = (640, 480)
_FLAT_MB_PER_MINUTE = 1.0
"""Limit of the slope of the server's memory. One frame that is kept in a hundred is 50."""
_EVEN = 0.9
"""The camera with the fewest results has at least this part of what the one with the most has."""
_STEADY = 0.95
"""In a phase with a bad camera, the good ones have at least this part of the results that they had in peace."""
_PATIENCE_S = 240.0
"""A camera that is back may be tried again after 30 s only, and a busy machine takes its time."""


@dataclass(frozen=True, slots=True)
class Task:
    """seconds: of peace; each other phase takes `bad_seconds`. service_ms: of a batch of any size."""

    seconds: float
    bad_seconds: float
    cameras: int = 8
    fps: int = 10
    service_ms: float = 20.0

    @property
    def bound_ms(self) -> float:
        """The age that the goal allows: twice the service time and the interval of frames."""
        return 2 * self.service_ms + 1e3 / self.fps


@dataclass(slots=True)
class Heard:
    """Results of one camera since `clear`. ages: milliseconds. dropped: frames that were left out."""

    ages: list[float] = field(default_factory=list)
    dropped: int = 0


class Watchers:
    """Watches cameras in a thread with an event loop of its own. A context manager. heard: by camera."""

    def __init__(self, port: int, names: list[str]) -> None:
        self.heard = {name: Heard() for name in names}
        self._port = port
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch_all()), daemon=True)

    def __enter__(self) -> Watchers:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def clear(self) -> None:
        """Begin to count anew."""
        self.heard.update({name: Heard() for name in self.heard})

    async def _watch_all(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._started.set()
        tasks = [asyncio.create_task(self._watch(name)) for name in self.heard]
        await self._end.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch(self, name: str) -> None:
        async with watch_camera(self._port, name, acknowledge=False, window=0) as opened:
            while True:
                message = await opened.result()
                heard = self.heard[name]
                heard.ages.append(message["age_ms"])
                heard.dropped += message["dropped"]


class ReadersMemory:
    """Samples the memory of the processes that read cameras, in megabytes. Called as often as wanted."""

    def __init__(self, server: ServerProcess) -> None:
        self.megabytes: list[float] = []
        self._server = server

    def sample(self) -> None:
        found = subprocess.run(
            ["ps", "-o", "rss=,args=", "--ppid", str(self._server.process.pid)],
            capture_output=True,
            check=False,
            encoding="utf-8",
        )
        lines = [line.split(None, 1) for line in found.stdout.splitlines() if "cameras.sources.reader" in line]
        self.megabytes.append(sum(int(kilobytes) for kilobytes, _ in lines) / 1e3)


def measure(task: Task) -> list[Row]:
    """Rows of the phases, followed by the goals."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cameras = [
            stack.enter_context(rtsp_process(_SIZE, "h264", fps=task.fps, prefix=_polite()))
            for _ in range(task.cameras)
        ]
        names = [f"camera-{n}" for n in range(task.cameras)]
        entries = (
            f'[cameras.{name}]\nsource = "rtsp://127.0.0.1:{port}/live"\ndetect_every = 0\n'
            for name, (_, port) in zip(names, cameras, strict=True)
        )
        (folder / "cameras.toml").write_text("\n".join(entries), "utf-8")
        server = stack.enter_context(
            ServerProcess(
                *("--model", "tiny"),
                catalogue=tiny_catalogue(folder),
                environment={"cameras": folder / "cameras.toml", "service_ms": task.service_ms},
                module="tests.slow_server",
            )
        )
        wait_for(lambda: all(_state(server, name) == "live" for name in names), _PATIENCE_S)
        watchers = stack.enter_context(Watchers(server.port, names[:-1]))
        wait_for(lambda: all(heard.ages for heard in watchers.heard.values()), _PATIENCE_S)
        bad, (process, port) = names[-1], cameras[-1]
        rows = [_phase("peace", task, task.seconds, server, watchers)]
        for phase, misbehave in _MISBEHAVIOUR.items():
            with misbehave(process, port):
                rows.append(_phase(phase, task, task.bad_seconds, server, watchers))
                wait_for(lambda: _state(server, bad) != "live", _PATIENCE_S)
            process = _again(stack, task, process, port)
            wait_for(lambda: _state(server, bad) == "live", _PATIENCE_S)
    return [*rows, *_goals(rows, task)]


def _polite() -> tuple[str, ...]:
    """The cameras themselves shall not take processor time from the server: elsewhere, they have their own."""
    return ("nice", "-n", "5")


@contextmanager
def _dead(process: subprocess.Popen[str], _: int) -> Iterator[None]:
    process.kill()
    process.wait()
    yield


@contextmanager
def _hung(process: subprocess.Popen[str], _: int) -> Iterator[None]:
    process.send_signal(signal.SIGSTOP)
    yield
    process.send_signal(signal.SIGCONT)


@contextmanager
def _garbage(process: subprocess.Popen[str], port: int) -> Iterator[None]:
    with _dead(process, port), scripted_rtsp(noise(framed=True, pause=0.001), port):
        yield


_MISBEHAVIOUR: dict[str, Callable[[subprocess.Popen[str], int], AbstractContextManager[None]]] = {
    "one is dead": _dead,
    "one hangs": _hung,
    "one sends garbage": _garbage,
}


def _again(stack: ExitStack, task: Task, process: subprocess.Popen[str], port: int) -> subprocess.Popen[str]:
    """Start the camera anew, unless it runs."""
    if process.poll() is None:
        return process
    started, _ = stack.enter_context(rtsp_process(_SIZE, "h264", fps=task.fps, port=port, prefix=_polite()))
    return started


def _phase(name: str, task: Task, seconds: float, server: ServerProcess, watchers: Watchers) -> Row:
    readers = ReadersMemory(server)
    watchers.clear()
    before = _losses(server)
    began = time.monotonic()
    with Watch(server) as watch:
        while (passed := time.monotonic() - began) < seconds:
            time.sleep(min(2.0, seconds - passed))
            readers.sample()
    seconds = time.monotonic() - began
    heard = list(watchers.heard.values())
    ages = [age for each in heard for age in each.ages]
    rates = [len(each.ages) / seconds for each in heard]
    dropped = sum(each.dropped for each in heard)
    return {
        "phase": name,
        "seconds": round(seconds),
        "fps least": round(min(rates), 2),
        "fps most": round(max(rates), 2),
        "age p50 ms": round(float(np.percentile(ages, 50)), 1),
        "age p99 ms": round(float(np.percentile(ages, 99)), 1),
        "worst p99 ms": round(max(float(np.percentile(each.ages, 99)) for each in heard), 1),
        "lost": _losses(server) - before,
        "dropped %": round(100 * dropped / max(1, dropped + len(ages)), 2),
        "MB": round(watch.megabytes[-1]),
        "MB/min": round(watch.slope, 2),
        "readers MB": round(readers.megabytes[-1]),
        "readers grew MB": round(readers.megabytes[-1] - readers.megabytes[0], 1),
        "server cores": round(watch.cores, 2),
    }


def _goals(rows: list[Row], task: Task) -> list[Row]:
    peace, *bad = rows
    found = [
        goal("in peace: fps of the camera with the fewest results, of that with the most",
             peace["fps least"] / peace["fps most"], ">", _EVEN),
        goal("in peace: age p99 of the worst camera, ms", peace["worst p99 ms"], "<", task.bound_ms),
        goal("in peace: growth of the server, MB a minute", peace["MB/min"], "<", _FLAT_MB_PER_MINUTE),
    ]  # fmt: skip
    for row in bad:
        found += [
            goal(f"{row['phase']}: fps least, of that in peace", row["fps least"] / peace["fps least"], ">", _STEADY),
            goal(f"{row['phase']}: age p99 of the worst camera, ms", row["worst p99 ms"], "<", task.bound_ms),
        ]
    return found


def _losses(server: ServerProcess) -> int:
    return sum(" is lost" in line for line in server.log)


def _state(server: ServerProcess, name: str) -> str:
    return str(httpx.get(f"{server.url}/cameras/{name}", timeout=30).json()["state"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long the phase of peace is; 10")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    found = measure(Task(60 * given.minutes, max(20.0, 6 * given.minutes)))
    print(machine())
    print(show(found))
    if given.json is not None:
        given.json.write_text(json.dumps({"machine": machine(), "rows": found}, indent=2) + "\n", "utf-8")
    sys.exit(not all(row.get("holds", True) for row in found))
