"""One-Euro smoothing: equal to the paper's formulas, steady at rest, quick in motion, and bounded in memory."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.tracking.smoothing import Filtered, OneEuro, OneEuroConfig, advance
from tests.shared import SHARED, needs_shared

K = len(COCO_17)


def people(*places: float, ids: tuple[int, ...] | None = None, score: float = 0.9, in_3d: bool = False) -> Poses:
    """A person of 100 x 100 pixels at each of `places`, with all keypoints at one point; ids 0, 1, ... if not given."""
    at = np.array(places, np.float32).reshape(-1, 1)
    n = len(at)
    return Poses(
        np.repeat(at, K * 2, axis=1).reshape(n, K, 2),
        np.full((n, K), score, np.float32),
        np.concatenate([at - 50, at - 50, at + 50, at + 50], axis=1),
        np.ones(n, np.float32),
        COCO_17,
        np.arange(n) if ids is None else np.array(ids, np.int64),
        np.repeat(at / np.float32(100), K * 3, axis=1).reshape(n, K, 3) if in_3d else None,
    )


def first(poses: Poses) -> float:
    """The position of the first person's first keypoint."""
    return float(poses.keypoints[0, 0, 0])


@needs_shared
@pytest.mark.parametrize("derivative", ["paper", "rawprev"])
@pytest.mark.parametrize("number", range(4))
def test_signals_are_filtered_as_in_the_paper(number: int, derivative: str) -> None:
    folder = SHARED / "goldens/metrics"
    index = json.loads((folder / "one_euro.json").read_text("utf-8"))
    golden = np.load(folder / "one_euro.npz")
    cutoffs = index["params"][number]
    config = OneEuroConfig(cutoffs["mincutoff"], cutoffs["beta"], cutoffs["dcutoff"], derivative == "rawprev")
    name = f"mc{cutoffs['mincutoff']}_b{cutoffs['beta']}_dc{cutoffs['dcutoff']}_{derivative}"
    for case in range(len(index["cases"])):
        t, x = golden[f"case{case}_t"], golden[f"case{case}_x"]
        state = Filtered.start(x[:1], t[0])
        states = [state]
        for value, time in zip(x[1:, None], t[1:], strict=True):
            states.append(state := advance(state, value, time, 1.0, config))
        values, speeds = (np.concatenate([getattr(s, part) for s in states]) for part in ("value", "speed"))
        np.testing.assert_allclose(values, golden[f"case{case}_{name}_xhat"], atol=index["tolerance"], rtol=0)
        np.testing.assert_allclose(speeds, golden[f"case{case}_{name}_dxhat"], atol=index["tolerance"], rtol=0)


def test_signals_are_filtered_independently() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(0, 10, (20, 3, 5, 2)).cumsum(axis=0)
    config = OneEuroConfig()

    def run(signals: NDArray[np.float64]) -> NDArray[np.float64]:
        state = Filtered.start(signals[0], np.zeros(signals.shape[1:-1]))
        for n, sample in enumerate(signals[1:], 1):
            state = advance(state, sample, np.full(signals.shape[1:-1], n / 30), 1.0, config)
        return state.value

    together = run(x)
    for person in range(3):
        for keypoint in range(5):
            np.testing.assert_allclose(together[person, keypoint], run(x[:, person, keypoint]), atol=1e-9)


def test_jitter_at_rest_is_reduced_and_motion_has_little_lag() -> None:
    rng = np.random.default_rng(1)
    resting, moving = OneEuro(), OneEuro()
    noise = rng.normal(0, 2, 90)
    calm = [first(resting.smooth(people(200 + noise[n]), n / 30)) for n in range(90)]
    assert np.abs(np.diff(calm)).mean() < 0.4 * np.abs(np.diff(noise)).mean()
    for n in range(90):
        place = 200.0 + 10 * n  # three sizes per second
        followed = first(moving.smooth(people(place), n / 30))
    assert place - followed < 10  # a lag of less than a frame


def test_smoothing_does_not_depend_on_the_frame_size() -> None:
    near, far = OneEuro(), OneEuro()
    for n, offset in enumerate((0, 3, 1, 5, 12, 20)):
        small = people(100 + offset)
        large = replace(small, keypoints=small.keypoints * 8, boxes=small.boxes * 8)
        assert first(near.smooth(large, n / 30)) == pytest.approx(8 * first(far.smooth(small, n / 30)), abs=1e-2)


def test_ids_are_smoothed_separately_in_any_order() -> None:
    filter_ = OneEuro()
    filter_.smooth(people(100, 500, ids=(7, 3)), 0.0)
    after = filter_.smooth(people(500, 100, ids=(3, 7)), 1 / 30)
    assert after.keypoints[:, 0, 0].tolist() == [500, 100]


def test_new_and_unconfirmed_people_are_not_changed() -> None:
    filter_ = OneEuro()
    filter_.smooth(people(100, 300, ids=(1, -1)), 0.0)
    after = filter_.smooth(people(110, 310, 700, ids=(1, -1, 2)), 1 / 30)
    assert 100 < first(after) < 110
    assert after.keypoints[1:, 0, 0].tolist() == [310, 700]


def test_poses_without_ids_or_people_are_not_changed() -> None:
    filter_ = OneEuro()
    alone = replace(people(100), ids=None)
    assert filter_.smooth(alone, 0.0) is alone
    assert len(filter_.smooth(replace(Poses.empty(COCO_17), ids=np.zeros(0, np.int64)), 0.1)) == 0


def test_an_unseen_keypoint_is_not_changed_and_resumes_only_after_a_short_gap() -> None:
    def after_gap(seconds: float) -> float:
        filter_ = OneEuro(OneEuroConfig(forget_seconds=0.2))
        filter_.smooth(people(100), 0.0)
        guess = filter_.smooth(people(900, score=0.1), 1 / 30)
        assert first(guess) == 900
        for n in range(2, round(seconds * 30)):
            filter_.smooth(people(900, score=0.1), n / 30)
        return first(filter_.smooth(people(110), seconds))

    assert 100 < after_gap(0.1) < 110
    assert after_gap(0.3) == 110


def test_filters_of_absent_people_expire() -> None:
    filter_ = OneEuro(OneEuroConfig(forget_seconds=0.2))
    for n in range(1000):
        filter_.smooth(people(100, ids=(n,)), n / 30)
        assert len(filter_) <= 7
    nobody = replace(Poses.empty(COCO_17), ids=np.zeros(0, np.int64))
    filter_.smooth(nobody, 1000 / 30)
    filter_.smooth(nobody, 1010 / 30)
    assert len(filter_) == 0


def test_a_repeated_time_changes_nothing_and_an_earlier_one_starts_anew() -> None:
    filter_ = OneEuro()
    filter_.smooth(people(100), 5.0)
    assert first(filter_.smooth(people(140), 5.0)) == 100
    assert first(filter_.smooth(people(140), 1.0)) == 140


def test_3d_keypoints_are_smoothed_and_boxes_and_scores_are_not() -> None:
    filter_ = OneEuro()
    filter_.smooth(people(100, in_3d=True), 0.0)
    raw = people(110, in_3d=True)
    before = raw.keypoints.copy()
    after = filter_.smooth(raw, 1 / 30)
    assert after.keypoints_3d is not None
    assert 1.0 < after.keypoints_3d[0, 0, 0] < 1.1
    assert (after.boxes == raw.boxes).all()
    assert (raw.keypoints == before).all()


@pytest.mark.parametrize("wrong", [{"min_cutoff": 0}, {"beta": -1}, {"speed_cutoff": float("nan")}])
def test_invalid_settings_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OneEuroConfig(**wrong)  # type: ignore[arg-type]
