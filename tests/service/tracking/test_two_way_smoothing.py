"""Smoothing with both directions of time: no lag, little noise, gaps and ids respected, bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.tracking.smoothing import OneEuro, OneEuroConfig
from service.tracking.two_way_smoothing import TwoWaySmoother
from tests.service.tracking.test_smoothing import first, people

FPS = 30


def smooth(frames: Sequence[Poses], config: OneEuroConfig | None = None, most: int = 64) -> list[Poses]:
    """Smooth frames, numbered from 0, and check that they come out once and in order."""
    smoother = TwoWaySmoother[int](config, frames=most)
    done = [out for n, poses in enumerate(frames) for out in smoother.push(n, poses, n / FPS)]
    done += smoother.flush()
    assert [n for n, _ in done] == list(range(len(frames)))
    return [poses for _, poses in done]


def test_steady_motion_does_not_lag_from_the_first_frame_to_the_last() -> None:
    smoothed = smooth([people(100 + 7 * n) for n in range(60)])
    np.testing.assert_allclose([first(poses) for poses in smoothed], 100 + 7 * np.arange(60), atol=1e-3)


def test_noise_is_reduced_more_than_by_one_euro_at_rest_and_in_motion() -> None:
    noise = np.random.default_rng(3).normal(0, 2, 120)
    for speed in (0, 5):
        places = 300 + speed * np.arange(120)
        frames = [people(float(x)) for x in places + noise]
        one_euro = OneEuro()
        ahead = [first(poses) for poses in smooth(frames)]
        behind = [first(one_euro.smooth(poses, n / FPS)) for n, poses in enumerate(frames)]
        assert np.abs(ahead - places).mean() < 0.6 * np.abs(behind - places).mean()
        assert np.abs(np.diff(ahead, n=2)).mean() < 0.4 * np.abs(np.diff(behind, n=2)).mean()


def test_a_sudden_start_is_followed() -> None:
    places = np.concatenate([np.full(30, 100.0), 100 + 15 * np.arange(30.0)])
    smoothed = np.array([first(poses) for poses in smooth([people(float(x)) for x in places])])
    assert np.abs(smoothed - places).max() < 15  # less than a frame's motion


def test_the_reverse_of_time_gives_the_reverse_result() -> None:
    rng = np.random.default_rng(5)
    frames = [people(float(x)) for x in 200 + rng.normal(0, 5, 50).cumsum()]
    forwards, backwards = smooth(frames), smooth(frames[::-1])
    np.testing.assert_allclose([first(p) for p in forwards], [first(p) for p in backwards[::-1]], atol=1e-3)


def test_a_cutoff_of_zero_frames_ahead_is_refused_and_few_frames_do() -> None:
    with pytest.raises(ValueError, match="at least one"):
        TwoWaySmoother[None](frames=0)
    smoothed = smooth([people(100 + 7 * n) for n in range(40)], most=2)
    np.testing.assert_allclose([first(poses) for poses in smoothed], 100 + 7 * np.arange(40), atol=1e-3)


def test_memory_is_bounded_by_time_and_by_frames() -> None:
    for most, waiting in ((64, 15), (4, 4)):
        smoother = TwoWaySmoother[int](frames=most)
        out = 0
        for n in range(200):
            out += len(smoother.push(n, people(100), n / FPS))
            assert n + 1 - out <= waiting
        assert out >= 200 - waiting


def test_people_are_smoothed_separately_and_nothing_crosses_an_id() -> None:
    frames = [people(100, 500, ids=(7, 3)) if n % 2 else people(500, 100, ids=(3, 7)) for n in range(20)]
    for n, poses in enumerate(smooth(frames)):
        np.testing.assert_allclose(poses.keypoints, frames[n].keypoints, atol=1e-3)
    taken_over = [people(100 if n < 10 else 400, ids=(1 if n < 10 else 2,)) for n in range(20)]
    assert [round(first(poses)) for poses in smooth(taken_over)] == [100] * 10 + [400] * 10


def test_a_gap_separates_and_a_short_one_does_not() -> None:
    def jump(missing: int) -> float:
        """The first person's place in the frame before `missing` frames without anybody and a jump."""
        nobody = replace(Poses.empty(COCO_17), ids=np.zeros(0, np.int64))
        frames = [people(100)] * 10 + [nobody] * missing + [people(140)] * 10
        return first(smooth(frames, OneEuroConfig(min_cutoff=0.2, beta=0))[9])

    assert jump(2) != pytest.approx(100, abs=0.5)
    assert jump(16) == pytest.approx(100, abs=1e-3)


def test_unseen_keypoints_and_unconfirmed_people_are_not_changed() -> None:
    rng = np.random.default_rng(6)
    frames = [people(*(100 + rng.normal(0, 3, 2)), ids=(1, -1)) for _ in range(12)]
    for poses in frames:
        poses.keypoint_scores[0, 5] = 0.1
    for before, after in zip(frames, smooth(frames), strict=True):
        np.testing.assert_array_equal(after.keypoints[1], before.keypoints[1])
        np.testing.assert_array_equal(after.keypoints[0, 5], before.keypoints[0, 5])
    assert np.abs(np.diff([first(poses) for poses in smooth(frames)])).max() < 2


def test_poses_without_ids_pass_and_3d_keypoints_are_smoothed() -> None:
    alone = replace(people(100), ids=None)
    assert smooth([alone] * 3) == [alone] * 3
    noise = np.random.default_rng(7).normal(0, 3, 30)
    frames = [people(100 + float(x), in_3d=True) for x in noise]
    in_3d = [poses.keypoints_3d[0, 0, 0] for poses in smooth(frames) if poses.keypoints_3d is not None]
    assert np.std(in_3d) < 0.5 * np.std(noise / 100)
    assert all((a.boxes == b.boxes).all() for a, b in zip(frames, smooth(frames), strict=True))
