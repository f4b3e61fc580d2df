"""Rules on real sequences of people who walk: poses of a real network, with the true ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.rules.definition import NAMED_ANGLES, AngleRule, FallRule, RepetitionRule, Rules
from service.rules.ground import GroundPlane
from service.rules.results import BodyResults
from service.rules.rules import BodyRules
from service.tracking.events import TrackingEvent
from service.tracking.places import feet
from service.tracking.zones import Line, Zone, Zones
from tests.benchmarks.tracking.sequences import read_mot
from tests.shared import SHARED, needs_shared

pytestmark = needs_shared

LEFT = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
MIDDLE = Line("middle", (0.5, 1.0), (0.5, 0.0))
KNEE = AngleRule.named("left_knee")


def film(
    name: str, rules: Rules, size: tuple[int, int], zones: Sequence[Zone] = (), lines: Sequence[Line] = ()
) -> Iterator[tuple[Poses, BodyResults, Sequence[TrackingEvent]]]:
    """Each frame's people whose true id is known, with what the rules say, and the events."""
    sequence = read_mot(SHARED / "data/tracking" / name)
    bodies, places = BodyRules(rules, COCO_17, zones, lines), Zones(zones, lines)
    for number, (people, truth, found) in enumerate(zip(sequence.people, sequence.truth, sequence.found, strict=True)):
        ids = np.full(len(people), -1)
        ids[found[found >= 0]] = truth[found >= 0]
        known = replace(people, ids=ids).select(ids >= 0)
        time = number / sequence.fps
        events = places.update(known, *size, time)
        results, told = bodies.update(known, *size, time, events=events, occupancy=places.occupancy(time))
        yield known, results, [*events, *told]


def test_people_who_walk_past_close_to_the_camera() -> None:
    """TUD-Campus: people of about 1.75 m are 196 pixels high, and walk to the left and to the right."""
    ground = GroundPlane(((0, 0, 0, 0), (1, 0, 640 / 112, 0), (1, 1, 640 / 112, 480 / 112), (0, 1, 0, 480 / 112)))
    squats = [RepetitionRule(str(low), KNEE, low, 155) for low in (90, 110)]
    angles = tuple(map(AngleRule.named, NAMED_ANGLES))
    rules = Rules(angles, posture=True, fall=FallRule(), repetitions=tuple(squats), ground=ground)
    frames = list(film("tud-campus", rules, (640, 480)))
    events = Counter((event.kind, event.name) for _, _, told in frames for event in told)
    assert events["fall", "fall"] == events["posture", "posture"] == events["repetition", "90"] == 0
    assert events["repetition", "110"] > 0  # a knee bends so far at a step: rules.md says so
    postures = np.concatenate([results.postures for _, results, _ in frames if results.postures is not None])
    assert (postures == 0).mean() > 0.95
    speeds = np.concatenate([results.speeds for _, results, _ in frames if results.speeds is not None])
    assert np.nanpercentile(speeds, [5, 95]).tolist() == sorted(np.clip(np.nanpercentile(speeds, [5, 95]), 0.5, 2.5))
    assert 1.0 < np.nanmedian(speeds) < 1.7
    degrees = np.concatenate([results.angles for _, results, _ in frames if results.angles is not None])
    median = dict(zip(NAMED_ANGLES, np.nanmedian(degrees, axis=0).tolist(), strict=True))
    assert min(median[f"{side}_{joint}"] for side in ("left", "right") for joint in ("elbow", "hip", "knee")) > 145
    assert max(median["left_shoulder"], median["right_shoulder"]) < 30  # arms hang down


def test_people_seen_from_above_are_counted_in_a_zone_and_at_a_line() -> None:
    """PETS S3-MF1: those who are there are counted as by hand, frame by frame."""
    rules = Rules(occupancy=True, counts=True, fall=FallRule())
    wrong, crossed = [], Counter[str]()
    sides: dict[int, bool] = {}
    events: Counter[str] = Counter()
    for people, results, told in film("pets-s3mf1", rules, (768, 576), [LEFT], [MIDDLE]):
        assert results.occupancy is not None
        assert people.ids is not None
        across = feet(people)[:, 0] - 768 / 2
        wrong.append(results.occupancy["left"] != int((across < 0).sum()))
        for person, beyond in zip(people.ids.tolist(), across.tolist(), strict=True):
            if abs(beyond) > 0.01 * 576 and sides.setdefault(person, beyond < 0) != (beyond < 0):
                sides[person] = beyond < 0
                crossed["to_left" if beyond < 0 else "to_right"] += 1
        events.update(event.kind for event in told)
    assert np.mean(wrong) < 0.1
    assert results.counts is not None
    assert results.counts["middle"] == {"to_left": crossed["to_left"], "to_right": crossed["to_right"]}
    assert crossed["to_left"] >= 3
    assert results.counts["left"]["entered"] == events["enter"] >= crossed["to_left"]
    assert events["fall"] == 0
