"""Trails show the last seconds of each person's way, in the person's colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.media.overlay import Trail, draw
from service.media.trails import Trails
from tests.service.tracking.walkers import standing


def test_a_trail_is_where_the_hips_were_lately() -> None:
    trails = Trails(1.0)
    for n in range(50):
        shown = trails.update(standing({3: (10.0 * n, 200.0)}), n / 8)
    (trail,) = shown
    assert trail.id == 3
    assert trail.points[:, 0].tolist() == [410 + 10 * n for n in range(9)]
    assert trail.points[:, 1].tolist() == [180.0] * 9
    assert trail.ages.tolist() == [1 - n / 8 for n in range(9)]


def test_who_has_left_fades_away_and_is_forgotten() -> None:
    trails = Trails(1.0)
    for n in range(10):
        trails.update(standing({3: (10.0 * n, 200.0)}), n / 10)
    nobody = replace(Poses.empty(COCO_17), ids=np.zeros(0, np.int64))
    assert len(trails.update(nobody, 1.5)[0].points) == 5
    assert trails.update(nobody, 2.0) == []


def test_hidden_hips_leave_a_gap_that_the_trail_bridges() -> None:
    trails = Trails(1.0)
    trails.update(standing({3: (10.0, 200.0)}), 0.0)
    trails.update(standing({3: (500.0, 200.0)}, score=0.1), 0.1)
    (trail,) = trails.update(standing({3: (30.0, 200.0)}), 0.2)
    assert trail.points[:, 0].tolist() == [10.0, 30.0]


def test_people_without_an_identity_leave_no_trail() -> None:
    trails = Trails(1.0)
    assert trails.update(standing({-1: (5.0, 5.0)}), 0.0) == []
    assert trails.update(replace(standing({1: (5.0, 5.0)}), ids=None), 0.1) == []


def test_memory_is_bounded_at_any_frame_rate_and_the_trail_stays_whole() -> None:
    trails = Trails(10.0)
    for n in range(20_000):
        (trail,) = trails.update(standing({1: (float(n), 200.0)}), n / 1000)
    assert len(trail.points) <= 256
    assert trail.points[-1, 0] == 19_999
    assert trail.ages[0] > 0.9


def test_it_is_drawn_below_the_people_in_their_colour() -> None:
    canvas = np.full((1000, 1000, 3), 100, np.uint8)
    points = np.array([[100, 200], [500, 200], [900, 200]], np.float32)
    picture = draw(canvas, Poses.empty(COCO_17), trails=[Trail(5, points, np.array([1.0, 0.6, 0.0], np.float32))])
    marked = (picture != 100).any(axis=2)
    assert marked[200, 100:900].all()
    assert not marked[:150].any()
    assert marked[:, 800].sum() > marked[:, 300].sum()
    person = draw(canvas, standing({5: (500.0, 800.0)}, height=400), boxes=True)
    assert (person == picture[200, 800]).all(axis=2).any()
    assert not (draw(canvas, standing({6: (500.0, 800.0)}), boxes=True) == picture[200, 800]).all(axis=2).any()


def test_a_place_that_is_none_breaks_nothing() -> None:
    points = np.array([[20, 50], [np.nan, 50], [1e30, 50], [100, 50]], np.float32)
    picture = draw(
        np.zeros((100, 100, 3), np.uint8), Poses.empty(COCO_17), trails=[Trail(1, points, np.zeros(4, np.float32))]
    )
    assert picture.shape == (100, 100, 3)
