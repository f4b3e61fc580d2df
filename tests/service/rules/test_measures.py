"""Angles, speeds over the ground, occupancy and counts, and rules that are not valid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17, HAND_21, define
from service.rules.definition import NAMED_ANGLES, AngleRule, FallRule, RepetitionRule, Rules
from service.rules.ground import GroundPlane
from service.rules.rules import BodyRules
from service.tracking.events import TrackingEvent
from service.tracking.zones import Line, Zone, Zones
from tests.service.tracking.walkers import standing

SIZE = WIDTH, HEIGHT = 1000, 500
ROOM = Zone("room", ((0.4, 0.2), (0.6, 0.2), (0.6, 0.8), (0.4, 0.8)))
DOOR = Line("door", (0.5, 0.9), (0.5, 0.1))
SQUARE = GroundPlane(((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 10.0, 0.0), (1.0, 1.0, 10.0, 5.0), (0.0, 1.0, 0.0, 5.0)))


def arm(degrees: float, *, score: float = 0.9, in_3d: bool = False) -> Poses:
    """A person whose left elbow has this angle."""
    poses = standing({1: (500.0, 400.0)})
    shoulder, elbow, wrist = (COCO_17.keypoints.index(f"left_{part}") for part in ("shoulder", "elbow", "wrist"))
    angle = np.radians(degrees)
    poses.keypoints[0, [shoulder, elbow, wrist]] = np.array(
        [(500, 100), (500, 200), (500 + 80 * np.sin(angle), 200 - 80 * np.cos(angle))]
    )
    poses.keypoint_scores[0, wrist] = score
    if not in_3d:
        return poses
    metres = np.zeros((1, 17, 3), np.float32)
    metres[0, shoulder], metres[0, wrist] = (0, -0.3, 0), (0, 0, 0.3)  # a right angle that points away
    return replace(poses, keypoints_3d=metres)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 135.0, 179.0, 180.0])
def test_an_angle_is_measured(degrees: float) -> None:
    own = AngleRule("mine", ("left_wrist", "left_elbow", "left_shoulder"))
    results, _ = BodyRules(Rules(angles=(AngleRule.named("left_elbow"), own)), COCO_17).update(arm(degrees), *SIZE, 0.0)
    assert results.angles is not None
    np.testing.assert_allclose(results.angles, degrees, atol=0.1)
    assert results.people_documents(1)[0]["angles"] == pytest.approx({"left_elbow": degrees, "mine": degrees}, abs=0.1)


def test_angles_in_space_need_metres_and_angles_need_keypoints_that_are_seen() -> None:
    bodies = BodyRules(Rules(angles=(AngleRule.named("left_elbow"), AngleRule.named("left_knee"))), COCO_17)
    [person] = bodies.update(arm(120, in_3d=True), *SIZE, 0.0)[0].people_documents(1)
    assert person["angles"] == {"left_elbow": 120.0}  # the legs have no length
    assert person["angles_3d"] == {"left_elbow": 90.0}
    [person] = bodies.update(arm(120, score=0.2), *SIZE, 0.1)[0].people_documents(1)
    assert person == {"angles": {}}


def test_unconfirmed_people_have_angles_and_nothing_else() -> None:
    rules = Rules(
        angles=(AngleRule.named("left_elbow"),),
        posture=True,
        repetitions=(RepetitionRule("curls", AngleRule.named("left_elbow"), 60, 150),),
        ground=SQUARE,
    )
    bodies = BodyRules(rules, COCO_17)
    for time in (0.0, 0.5):
        results, _ = bodies.update(replace(arm(120), ids=np.array([-1])), *SIZE, time)
    assert results.people_documents(1) == [{"angles": {"left_elbow": 120.0}, "repetitions": {}}]
    assert len(bodies.state().people) == 0


def test_a_neck_lies_between_the_shoulders_if_the_model_has_none() -> None:
    bodies = BodyRules(Rules(angles=(AngleRule("tilt", ("nose", "neck", "left_hip")),)), COCO_17)
    assert bodies.update(arm(90), *SIZE, 0.0)[0].names == ("tilt",)


@pytest.mark.parametrize("fps", [5, 25])
@pytest.mark.parametrize(("step", "speed"), [((0.0, 0.0), 0.0), ((0.1, 0.0), 1.0), ((-0.06, 0.08), 1.0)])
def test_a_speed_is_in_metres_a_second(step: tuple[float, float], speed: float, fps: int) -> None:
    rng, bodies = np.random.default_rng(0), BodyRules(Rules(ground=SQUARE), COCO_17)
    for n in range(4 * fps):
        metres = np.array([5, 2]) + n / fps * np.array(step) * 10 / 2 + rng.normal(0, 0.004, 2)
        results, _ = bodies.update(standing({1: tuple(metres * 100)}), *SIZE, n / fps)
        assert results.speeds is not None
        assert np.isnan(results.speeds[0]) == (n == 0)
    assert results.people_documents(1)[0]["speed"] == pytest.approx(speed / 2, abs=0.05)


def test_a_ground_in_perspective_maps_its_corners_and_ends_before_the_horizon() -> None:
    points = ((0.3, 0.5, 0.0, 8.0), (0.7, 0.5, 4.0, 8.0), (1.0, 1.0, 4.0, 0.0), (0.0, 1.0, 0.0, 0.0))
    ground = GroundPlane(points)
    corners = np.array(points)
    np.testing.assert_allclose(ground.metres(corners[:, :2]), corners[:, 2:], atol=1e-9)
    np.testing.assert_allclose(ground.metres(np.array([[0.5, 1.0]])), [[2.0, 0.0]], atol=1e-9)
    assert np.isnan(ground.metres(np.array([[0.5, 0.17], [0.5, 0.0], [0.5, 0.1667]]))).all()  # the horizon is at 1/6


def test_speeds_start_over_after_a_gap() -> None:
    bodies = BodyRules(Rules(ground=SQUARE), COCO_17)
    for time, x in ((0.0, 100.0), (0.2, 120.0), (3.0, 900.0)):
        results, _ = bodies.update(standing({1: (x, 250.0)}), *SIZE, time)
    assert results.speeds is not None
    assert np.isnan(results.speeds[0])


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (((0, 0, 0, 0), (1, 0, 1, 0), (1, 1, 1, 1)), "four points"),
        (((0, 0, 0, 0), (1, 0, 1, 0), (1, 1, 1, 1), (0, 1, 0, np.inf)), "four points"),
        (((0, 0, 0, 0), (0.5, 0, 1, 0), (1, 0, 1, 1), (0, 1, 0, 1)), "three of the points lie on one line in the pict"),
        (((0, 0, 0, 0), (1, 0, 1, 1), (1, 1, 2, 2), (0, 1, 0, 1)), "three of the points lie on one line in metres"),
        (((0, 0, 0, 0), (1, 1, 1, 1), (1, 0, 1, 0), (0, 1, 0, 1)), "must go around a quadrilateral"),
        (((0, 0, 0, 0), (1, 0, 1, 0), (0.3, 0.3, 1, 1), (0, 1, 0, 1)), "must go around a quadrilateral"),
        (((0, 0, 0, 0), (0, 0, 1, 0), (1, 1, 1, 1), (0, 1, 0, 1)), "two of the points are the same in the picture"),
        (((0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1)), "two of the points are the same in metres"),
        (((0, 0, 0, 0), (9, 0, 1, 0), (1, 1, 1, 1), (0, 1, 0, 1)), "shares of the picture"),
        (((0, 0, 0, 0), (1, 0, 1e6, 0), (1, 1, 1, 1), (0, 1, 0, 1)), "metres must be in"),
    ],
)
def test_a_ground_that_is_no_plane_is_refused(points: tuple[tuple[float, ...], ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GroundPlane(points)  # type: ignore[arg-type]


def test_people_are_counted_in_zones_and_at_lines() -> None:
    zones, bodies = Zones([ROOM], [DOOR]), BodyRules(Rules(occupancy=True, counts=True), COCO_17, [ROOM], [DOOR])
    seen: list[object] = []
    for n, x in enumerate([300, 450, 550, 450, 300]):
        people = standing({1: (x, 250.0), 2: (500.0, 250.0)})
        events: list[TrackingEvent] = zones.update(people, *SIZE, n / 10)
        results, told = bodies.update(people, *SIZE, n / 10, events=events, occupancy=zones.occupancy(n / 10))
        assert told == []
        seen.append(results.frame_document()["occupancy"]["room"])
    assert seen == [1, 2, 2, 2, 1]
    assert results.frame_document()["counts"] == {
        "room": {"entered": 2, "left": 1},
        "door": {"to_left": 1, "to_right": 1},
    }
    again = BodyRules(Rules(occupancy=True, counts=True), COCO_17, [ROOM], [DOOR])
    again.restore(bodies.state())
    assert again.update(standing({}), *SIZE, 1.0)[0].counts == results.counts
    other = BodyRules(Rules(counts=True), COCO_17, [ROOM], [DOOR])
    other.restore(bodies.state())  # of other rules
    assert other.update(standing({}), *SIZE, 1.0)[0].counts == {
        "room": {"entered": 0, "left": 0},
        "door": {"to_left": 0, "to_right": 0},
    }


def test_people_whom_the_tracker_forgets_are_forgotten() -> None:
    bodies = BodyRules(Rules(ground=SQUARE), COCO_17)
    for n in range(1, 300):
        bodies.update(standing({n: (500.0, 250.0)}), *SIZE, n / 10, known=np.arange(n - 2, n + 1))
    assert bodies.state().people["id"].tolist() == [299, 298, 297]


def test_no_person_and_frames_without_ids_are_no_error() -> None:
    everything = Rules(
        angles=tuple(map(AngleRule.named, NAMED_ANGLES)), posture=True, fall=FallRule(), occupancy=True, ground=SQUARE
    )
    bodies = BodyRules(everything, COCO_17, [ROOM])
    for poses in (Poses.empty(COCO_17), standing({}), replace(standing({1: (5.0, 5.0)}), ids=None)):
        results, events = bodies.update(poses, *SIZE, 0.0, occupancy=[0])
        assert events == []
        assert len(results.people_documents(len(poses))) == len(poses)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: AngleRule.named("left_tail"), "no angle is called 'left_tail'"),
        (lambda: AngleRule("x", ("nose", "nose", "neck")), "three different keypoints"),
        (lambda: RepetitionRule("x", AngleRule.named("left_knee"), 100, 105), "at least 10 more than low"),
        (lambda: RepetitionRule("x", AngleRule.named("left_knee"), -1, 105), "0..180"),
        (lambda: Rules(occupancy=True).check((), (DOOR,)), "rules.occupancy: there are no zones"),
        (lambda: Rules(counts=True).check((), ()), "rules.counts: there are no zones or lines"),
        (
            lambda: Rules(fall=FallRule(("bed",))).check((ROOM,), ()),
            "rules.fall: no zone is called 'bed'; there are room",
        ),
        (
            lambda: Rules(angles=(AngleRule.named("left_knee"),) * 2).check((), ()),
            "several angles are called 'left_knee'",
        ),
        (lambda: BodyRules(Rules(fall=FallRule()), HAND_21), "skeleton hand-21 has no left_shoulder, right_shoulder"),
        (lambda: BodyRules(Rules(posture=True), define("me", ["left_hip"])), "has no left_shoulder"),
    ],
)
def test_rules_that_cannot_work_are_refused_clearly(make: Callable[[], object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
