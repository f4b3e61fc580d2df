"""Cameras whose replica dies, drains or is suspended: python -m tests.benchmarks camera_failover [--json FILE]

Three replicas and Redis, all real processes, with 12 MJPEG cameras of 10 frames a second on the loopback. How long the
cameras of a replica have no result (from the last before to the first after, as somebody sees it who watches at another
replica), and whose identity changes: when a replica is killed, told to end, and suspended, each several times. Needs
redis-server.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, main
from tests.deployment.camera_fleet import CameraFleet, Onlooker

_ROUNDS = 5
_CAMERAS = 12
_STEADY_S = 10.0
"""Before each harm, so that nothing else is still going on, and readers are ready for cameras to come."""
_FPS = 10.0
_GOAL_S = 3.0


async def measure(fleet: CameraFleet, name: str, harm: Callable[[], None], mend: Callable[[], None]) -> list[Row]:
    """A row about what `harm` does to the cameras of the second replica, several times, and its goals."""
    gaps: list[float] = []
    async with Onlooker(fleet) as onlooker:
        await onlooker.until(fleet.spread)
        await onlooker.let_in(3)
        for _ in range(_ROUNDS):
            await onlooker.go_on()
            await asyncio.sleep(_STEADY_S)
            before = await asyncio.to_thread(fleet.owner_of_each)
            for seen in onlooker.seen.values():
                seen.silences.clear()
            await asyncio.to_thread(harm)
            await onlooker.until(lambda: len(fleet.owners()) == 2 and fleet.owners().total() == _CAMERAS)
            await onlooker.go_on()
            after = await asyncio.to_thread(fleet.owner_of_each)
            gaps += [max(onlooker.seen[camera].silences) for camera in before if before[camera] != after[camera]]
            await asyncio.to_thread(mend)
            await onlooker.until(fleet.spread)
        lost = sum(map(len, onlooker.lost().values()))
    shares = {"least": 0, "p50": 50, "p90": 90, "most": 100}
    row: Row = {"scenario": name, "cameras": len(gaps)}
    row |= {f"gap {word} s": round(float(np.percentile(gaps, share)), 2) for word, share in shares.items()}
    return [row, goal(f"{name}: longest gap, s", max(gaps), "<", _GOAL_S), goal(f"{name}: ids lost", lost, "=", 0)]


def run() -> list[Row]:
    """All three scenarios, one after the other."""
    with tempfile.TemporaryDirectory() as name, CameraFleet(Path(name), cameras=_CAMERAS, fps=_FPS) as fleet:

        def send(number: signal.Signals) -> Callable[[], None]:
            return lambda: fleet.replicas[1].process.send_signal(number)

        def restart() -> None:
            fleet.replicas[1].process.wait(60)
            fleet.restart(1)

        return [
            *asyncio.run(measure(fleet, "kill -9", send(signal.SIGKILL), restart)),
            *asyncio.run(measure(fleet, "SIGTERM", send(signal.SIGTERM), restart)),
            *asyncio.run(measure(fleet, "SIGSTOP", send(signal.SIGSTOP), send(signal.SIGCONT))),
        ]


if __name__ == "__main__":
    main(run, show)
