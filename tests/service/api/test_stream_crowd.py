"""Short versions of tests/benchmarks/streams.py: many cameras at once, and cameras that are stopped for a while.

The age of frames depends on the machine and its load, so only the benchmark checks it.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.report import Row
from tests.benchmarks.streams import Crowd, Stop, crowd, stopped

_NEEDS_A_QUIET_MACHINE = ("age p99, ms", "served / sent", "memory, MB/min")


def broken(rows: list[Row]) -> list[Row]:
    return [row for row in rows if not row.get("holds", True) and row["goal"] not in _NEEDS_A_QUIET_MACHINE]


def test_every_camera_of_a_crowd_gets_its_share(tmp_path: Path) -> None:
    assert broken(crowd(Crowd(cameras=10, service_ms=20, seconds=3), tmp_path)) == []


def test_cameras_that_were_stopped_continue_with_new_frames(tmp_path: Path) -> None:
    assert broken(stopped(Stop(cameras=2, seconds=2), tmp_path)) == []
