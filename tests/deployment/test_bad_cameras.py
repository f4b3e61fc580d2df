"""Cameras by RTSP that die, hang and send garbage beside good ones: the benchmark of cameras, in short."""

from __future__ import annotations

from tests.benchmarks.cameras import Task, measure


def test_a_bad_camera_comes_back_and_good_ones_go_on_meanwhile() -> None:
    rows = [row for row in measure(Task(seconds=3, bad_seconds=3, cameras=3)) if "phase" in row]
    assert [row["phase"] for row in rows] == ["peace", "one is dead", "one hangs", "one sends garbage"]
    assert all(row["fps least"] > 0 for row in rows)
