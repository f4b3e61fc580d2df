"""Velocities and times in view follow the people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.tracking.velocity import Movement, VelocityMeter
from tests.service.tracking.walkers import standing


def follow(meter: VelocityMeter, speed: float, seconds: float, *, score: float = 0.9, fps: float = 25.0) -> Movement:
    for n in range(round(seconds * fps) + 1):
        motion = meter.update(standing({1: (100 + speed * n / fps, 300.0)}, score=score), n / fps)
    return motion


@pytest.mark.parametrize("fps", [5, 25, 60])
def test_a_walker_has_his_speed_and_his_time_at_any_frame_rate(fps: float) -> None:
    motion = follow(VelocityMeter(), 120.0, 2.0, fps=fps)
    assert motion.velocities[0] == pytest.approx([120, 0], abs=0.1)
    assert motion.visible_seconds[0] == pytest.approx(2.0)


def test_the_first_frame_shows_no_motion() -> None:
    motion = VelocityMeter().update(standing({1: (100.0, 300.0), -1: (5.0, 5.0)}), 3.0)
    assert not motion.velocities.any()
    assert not motion.visible_seconds.any()


def test_a_keypoint_that_appears_or_jumps_is_no_motion_of_the_person() -> None:
    meter = VelocityMeter()
    poses = standing({1: (100.0, 300.0)})
    poses.keypoint_scores[0, 5:9] = 0.1
    poses.keypoints[0, 5:9] = 0
    meter.update(poses, 0.0)
    poses = standing({1: (100.0, 300.0)})
    poses.keypoints[0, 0] = 900
    assert not meter.update(poses, 0.1).velocities.any()


def test_without_confident_keypoints_the_box_counts() -> None:
    assert follow(VelocityMeter(), 50.0, 1.0, score=0.0).velocities[0] == pytest.approx([50, 0], abs=0.1)


def test_a_stop_shows_within_a_second() -> None:
    meter = VelocityMeter()
    follow(meter, 100.0, 1.0)
    for n in range(25):
        motion = meter.update(standing({1: (200.0, 300.0)}), 1.04 + n / 25)
    assert np.abs(motion.velocities).max() < 5


def test_a_long_gap_starts_anew_and_the_gone_are_forgotten() -> None:
    meter = VelocityMeter(lost_seconds=1.0)
    follow(meter, 100.0, 1.0)
    assert meter.update(standing({1: (900.0, 300.0)}), 3.0).visible_seconds[0] == 0
    for n in range(500):
        meter.update(standing({n + 2: (0.0, 0.0)}), 4 + n / 10)
    assert len(meter) <= 11


def test_two_frames_of_one_instant_change_nothing_and_nobody_has_no_motion() -> None:
    meter = VelocityMeter()
    before = follow(meter, 100.0, 1.0)
    again = meter.update(standing({1: (700.0, 300.0)}), 1.0)
    assert (again.velocities == before.velocities).all()
    assert len(meter.update(replace(standing({}), ids=None), 1.1).velocities) == 0
