"""Replicas that die and are restarted under load: python -m tests.benchmarks failover [--json FILE]

Three replicas, HAProxy and Redis, all real processes, under 40 streams of two frames a second and 20 clients of stills.
How long a stream whose connection is lost has no result (from the last before to the first after, a frame's time
included), which identities change, and which stills are lost: when one replica is killed and another told to end, when
all are restarted in turn, and when Redis dies and then a replica. Needs haproxy and redis-server.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, main
from tests.deployment.crowd import Crowd
from tests.deployment.failover import deaths, deployment, redis_gone, rolling_restart

_RESUMED_S = 2.0


def measure(name: str, crowd: Crowd) -> list[Row]:
    """A row of measurements, followed by its goals."""
    gaps = [gap for camera in crowd.cameras for gap in camera.gaps] or [0.0]
    resumed = [seconds for camera in crowd.cameras for seconds in camera.resumed] or [0.0]
    silences = [silence for camera in crowd.cameras for silence in camera.silences]
    ended = sum(bool(camera.problem) for camera in crowd.cameras)
    lost = sum(camera.lost for camera in crowd.cameras)
    failed = sum(len(asker.failures) + asker.wrong for asker in crowd.askers)
    row = {
        "scenario": name,
        "results": sum(camera.heard for camera in crowd.cameras),
        "connections lost": sum(len(camera.gaps) for camera in crowd.cameras),
        "connected again p99 s": round(float(np.percentile(gaps, 99)), 3),
        "result after result p99 s": round(float(np.percentile(resumed, 99)), 3),
        "longest silence s": round(max(silences), 2),
        "stills": sum(asker.answered for asker in crowd.askers),
        "slowest still s": round(max(asker.slowest for asker in crowd.askers), 2),
    }
    return [
        row,
        goal(f"{name}: resumed p99, s", float(np.percentile(resumed, 99)), "<", _RESUMED_S),
        goal(f"{name}: streams that ended", ended, "=", 0),
        goal(f"{name}: identities lost", lost, "=", 0),
        goal(f"{name}: stills failed", failed, "=", 0),
    ]


def run() -> list[Row]:
    """All three scenarios, one after the other."""
    with tempfile.TemporaryDirectory() as name, deployment(Path(name)) as (fleet, redis):
        return [
            *measure("kill -9, SIGTERM", asyncio.run(deaths(fleet))),
            *measure("rolling restart", asyncio.run(rolling_restart(fleet))),
            *measure("Redis, then a replica", asyncio.run(redis_gone(fleet, redis))),
        ]


if __name__ == "__main__":
    main(run, show)
