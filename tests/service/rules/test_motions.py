"""Postures, falls and repetitions of invented and real people who move, and what the rules must not take for them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from engines.poses import Doubles
from engines.skeletons import BLAZEPOSE_33, COCO_17
from service.rules.definition import AngleRule, FallRule, RepetitionRule, Rules
from service.rules.rules import BodyRules
from service.tracking.events import TrackingEvent
from service.tracking.zones import Zone
from tests.motions import (
    HEIGHT,
    WIDTH,
    Motion,
    Shooting,
    bend,
    crouch,
    crumple,
    figure,
    lie_slowly,
    posetrack_people,
    sit,
    squats,
    stand,
    together,
    topple,
    walk,
)
from tests.shared import SHARED, needs_shared

SQUATS = RepetitionRule("squats", AngleRule.named("left_knee"), 120, 155)
RULES = Rules(posture=True, fall=FallRule(), repetitions=(SQUATS,))


def happenings(
    motion: Motion, seconds: float = 7.0, *, rules: Rules = RULES, seed: int = 0, **shooting: float
) -> list[TrackingEvent]:
    """The events of an invented person who moves."""
    frames = Shooting(**shooting).film(figure(), motion, seconds, np.random.default_rng(seed))
    bodies = BodyRules(rules, COCO_17)
    return [event for time, poses in frames for event in bodies.update(poses, WIDTH, HEIGHT, time)[1]]


def falls(events: list[TrackingEvent]) -> int:
    return sum(event.kind == "fall" for event in events)


def postures(events: list[TrackingEvent]) -> list[object]:
    return [event.values["posture"] for event in events if event.kind == "posture"]


@pytest.mark.parametrize("fps", [8.0, 20.0])
@pytest.mark.parametrize("fall", [topple(2, 0.5, 0), topple(2, 1, 180), crumple(2, 0.8, 30), crumple(2, 1, 150)])
def test_a_fall_is_one_event(fall: Motion, fps: float) -> None:
    events = happenings(fall, fps=fps)
    [event] = [event for event in events if event.kind == "fall"]
    assert 2.2 < event.timestamp < 4.2
    assert (event.id, event.name) == (1, "fall")
    assert isinstance(event.values["speed"], float)
    assert 1.8 < event.values["speed"] < 15
    assert postures(events)[-1] == "lying"


@pytest.mark.parametrize(
    "motion",
    [
        stand,
        *(walk(1.2, towards) for towards in (0, 45)),
        *(
            sit(2, 0.8, 0),
            sit(2, 0.5, 60),
            crouch(2, 0.7, 90),
            bend(2, 0.6, 0, 100),
            bend(2, 0.6, 30, 70),
            squats(2, 1.2, 0, 3),
        ),
        *(lie_slowly(2, 3, 0), crumple(2, 4, 0, rest=1)),
    ],
)
def test_other_motions_are_no_fall(motion: Motion) -> None:
    assert falls(happenings(motion, 7.5)) == 0


def test_a_second_fall_is_a_second_event_and_lying_on_is_none() -> None:
    rise = lie_slowly(0, 3, 0)

    def twice(body: Doubles, time: float) -> Doubles:
        if 5 < time < 8:
            return rise(body, 8 - time)
        return topple(1, 0.6, 0)(body, time) if time <= 5 else topple(10, 0.6, 0)(body, time)

    assert falls(happenings(twice, 16.0)) == 2


def test_falls_in_zones_to_ignore_are_not_reported() -> None:
    bed = Zone("bed", ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0)))
    elsewhere = replace(bed, polygon=((0.0, 0.0), (0.2, 0.0), (0.2, 0.2)))
    rules = Rules(fall=FallRule(("bed",)))
    for zone, count in ((bed, 0), (elsewhere, 1)):
        bodies = BodyRules(rules, COCO_17, [zone])
        frames = Shooting().film(figure(), topple(2, 0.7, 0), 6, np.random.default_rng(0))
        events = [event for time, poses in frames for event in bodies.update(poses, WIDTH, HEIGHT, time)[1]]
        assert len(events) == count


@pytest.mark.parametrize(("motion", "last"), [(stand, None), (sit(2, 1, 20), "sitting"), (topple(2, 1, 0), "lying")])
def test_a_change_of_posture_is_one_event_and_results_name_it(motion: Motion, last: str | None) -> None:
    bodies = BodyRules(Rules(posture=True), COCO_17)
    events = []
    for time, poses in Shooting().film(figure(), motion, 6, np.random.default_rng(1)):
        results, told = bodies.update(poses, WIDTH, HEIGHT, time)
        events += told
    assert postures(events) == ([last] if last else [])
    assert all(event.values["from"] == "standing" for event in events)
    [person] = results.people_documents(1)
    posture = person["posture"]
    assert isinstance(posture, dict)
    assert posture["name"] == (last or "standing")
    assert 0.8 < posture["confidence"] <= 1


def test_a_person_between_two_postures_does_not_flicker() -> None:
    halfway = sit(-10, 1, 0)  # sits from the beginning; the shares below put the thighs between both thresholds

    def undecided(body: Doubles, time: float) -> Doubles:
        return body + 0.62 * (halfway(body, 0.0) - body)

    assert len(postures(happenings(undecided, 12.0, noise=0.05))) <= 2


def test_without_legs_nobody_is_said_to_stand_or_sit() -> None:
    body = figure()
    body[13:] = np.nan
    bodies = BodyRules(RULES, COCO_17)
    for time, poses in Shooting(missing=0).film(body, lambda body, _: body, 3, np.random.default_rng(0)):
        results, events = bodies.update(poses, WIDTH, HEIGHT, time)
        assert events == []
        assert "posture" not in results.people_documents(1)[0]


@pytest.mark.parametrize("fps", [8.0, 15.0])
@pytest.mark.parametrize("count", [1, 6])
def test_repetitions_are_counted(count: int, fps: float) -> None:
    events = happenings(squats(1, 2, 0, count), 2 * count + 2, fps=fps, missing=0, rules=Rules(repetitions=(SQUATS,)))
    assert [event.values["count"] for event in events] == list(range(1, count + 1))
    assert {(event.kind, event.name) for event in events} == {("repetition", "squats")}


@pytest.mark.parametrize("motion", [stand, bend(2, 0.8, 0, 90), squats(2, 2, 0, 5, depth=0.08), topple(2, 1, 0)])
def test_other_motions_are_no_repetition(motion: Motion) -> None:
    assert happenings(motion, 12.0, rules=Rules(repetitions=(SQUATS,))) == []


def test_one_wrong_frame_is_no_repetition() -> None:
    bodies = BodyRules(Rules(repetitions=(SQUATS,)), COCO_17)
    for n, (time, poses) in enumerate(Shooting(missing=0).film(figure(), stand, 6, np.random.default_rng(0))):
        if n % 20 == 10:
            poses.keypoints[0, COCO_17.keypoints.index("left_ankle")] -= (100, 120)
        assert bodies.update(poses, WIDTH, HEIGHT, time)[1] == []


@pytest.mark.parametrize("stop", [20, 37, 45])
def test_a_restored_state_gives_the_same_events_and_results(stop: int) -> None:
    frames = Shooting().film(figure(), topple(2, 0.7, 0), 6, np.random.default_rng(3))
    whole = [BodyRules(RULES, COCO_17)]
    parts = [BodyRules(RULES, COCO_17), BodyRules(RULES, COCO_17)]
    told: list[list[TrackingEvent]] = [[], []]
    for n, (time, poses) in enumerate(frames):
        if n == stop:
            parts[1].restore(parts[0].state())
        results = []
        for which, bodies in enumerate((whole[0], parts[n >= stop])):
            result, events = bodies.update(poses, WIDTH, HEIGHT, time)
            told[which] += events
            results.append(result.people_documents(1))
        assert results[0] == results[1]
    assert told[0] == told[1]
    assert falls(told[0]) == 1


def test_everybody_is_looked_at_alone() -> None:
    motions: list[Motion] = [topple(2, 0.7, 0), stand, sit(2, 1, 0), squats(1, 2, 0, 2)]
    films = [Shooting().film(figure(), motion, 6, np.random.default_rng(9)) for motion in motions]
    bodies = BodyRules(RULES, COCO_17)
    told = []
    for at in zip(*films, strict=True):
        told += bodies.update(together([poses for _, poses in at]), WIDTH, HEIGHT, at[0][0])[1]
    alone = []
    for person, film in enumerate(films, start=1):
        own = BodyRules(RULES, COCO_17)
        for time, poses in film:
            alone += [replace(event, id=person) for event in own.update(poses, WIDTH, HEIGHT, time)[1]]
    assert sorted(told, key=repr) == sorted(alone, key=repr)


def test_other_skeletons_have_the_same_events() -> None:
    frames = Shooting().film(figure(), topple(2, 0.7, 0), 6, np.random.default_rng(3))
    bodies = BodyRules(RULES, BLAZEPOSE_33)
    events = []
    for time, poses in frames:
        events += bodies.update(poses.as_skeleton(BLAZEPOSE_33), WIDTH, HEIGHT, time)[1]
    assert falls(events) == 1


@needs_shared
def test_people_who_walk_through_a_real_sequence_stand_and_do_not_fall() -> None:
    truth = json.loads((SHARED / "data/posetrack/ground_truth.json").read_text("utf-8"))
    bodies = BodyRules(RULES, COCO_17)
    found: list[int] = []
    for n, frame in enumerate(truth["frames"]):
        results, events = bodies.update(posetrack_people(truth, frame), 960, 540, n / 25)
        assert falls(events) == 0
        assert results.postures is not None
        found += results.postures.tolist()
    known = [posture for posture in found if posture >= 0]
    assert len(known) > 0.9 * len(found)
    assert known.count(0) > 0.95 * len(known)
