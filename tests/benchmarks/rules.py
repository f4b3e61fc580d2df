"""Falls, repetitions, postures and the cost of rules: python -m tests.benchmarks rules [--json FILE] [--tuning]

There are no recorded falls here. Falls and repetitions are made from real skeletons: people of COCO and PoseTrack (in
../shared) who stand with all of the shoulders, hips, knees and ankles annotated are lifted to flat figures, moved in
space (see `tests/motions.py`) and seen by a camera that looks down by 0 to 30 degrees, in 8 to 30 frames a second, with
keypoints that are wrong by 2 to 5 % of the torso's length and missing in 2 to 8 % of the frames. The thresholds of the
rules were set with every other skeleton (`--tuning`); the figures are of the others, with other random numbers.

fall: as a stick about the feet in 0.4 to 1 s, or with knees that give way in 0.6 to 1.2 s, to all sides; by the angle
between the fall and the picture. Recall: of falls that have an event, from their begin to 2 s after their end. A second
event of the same fall is false, as is every event of another motion. postures: of people in COCO's images, labelled by
hand; the thresholds of the thighs were set on these.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from engines.poses import Doubles, Poses
from engines.skeletons import COCO_17
from service.rules.definition import NAMED_ANGLES, AngleRule, FallRule, RepetitionRule, Rules
from service.rules.geometry import BodyShape, from_vertical
from service.rules.ground import GroundPlane
from service.rules.posture import POSTURES
from service.rules.rules import BodyRules
from service.tracking.events import TrackingEvent
from tests.benchmarks.report import Row, main
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
from tests.shared import SHARED

_CLIPS = 4
"""Of each motion and skeleton."""
_STANDING = (
    *(442619, 460541, 488308, 1724673, 437295, 543117, 200887, 1256641, 1263909, 1279276, 460884, 2165734),
    *(198481, 453741, 472373, 503696, 484745, 2157947, 230831, 1710500, 201384, 430057),
)
_SITTING = (198196, 230195, 1319463, 2005353, 209396, 1221298, 186932, 187444)
"""Annotations of COCO, labelled by hand: those whose shoulders, hips and knees are annotated."""
_SQUATS = Rules(repetitions=(RepetitionRule("squats", AngleRule.named("left_knee"), 120, 155),))


def skeletons() -> list[tuple[Doubles, Doubles]]:
    """Keypoints (17, 2) and scores (17,) of the people who stand upright and are annotated as a whole."""
    found: list[tuple[Doubles, Doubles]] = []
    annotations = json.loads((SHARED / "data/coco/person_keypoints.json").read_text("utf-8"))["annotations"]
    people = [np.array(each["keypoints"], np.float64).reshape(17, 3) for each in annotations]
    truth = json.loads((SHARED / "data/posetrack/ground_truth.json").read_text("utf-8"))
    for frame in truth["frames"][::20]:
        poses = posetrack_people(truth, frame)
        people += list(np.concatenate([poses.keypoints, poses.keypoint_scores[..., None]], axis=2).astype(np.float64))
    joints = Rules(posture=True).joints
    assert joints is not None
    index = [COCO_17.keypoints.index(name) for name in joints.keypoints]
    for person in people:
        points, scores = person[:, :2], person[:, 2]
        if not (scores[index] > 0).all():
            continue
        shape = BodyShape.of(points[None, index], np.ones((1, len(index)), bool), joints)
        torso = float(np.linalg.norm(shape.torso))
        thighs = -float(shape.thighs[0, 1]) / torso
        if from_vertical(shape.torso)[0] < 20 and from_vertical(shape.legs)[0] < 15 and torso > 25 and thighs > 0.5:
            found.append((points, scores))
    return found


def falls(rng: np.random.Generator) -> Iterator[tuple[str, Motion, float]]:
    """Falls with their kinds and when they end. They begin at 2 s."""
    for towards in rng.uniform(0, 360, _CLIPS):
        along = abs(np.degrees(np.arcsin(np.sin(np.radians(towards)))))
        name = "sideways, 0-30" if along <= 30 else "oblique, 30-60" if along <= 60 else "to or from, 60-90"
        long, short = rng.uniform(0.6, 1.2), rng.uniform(0.4, 1.0)
        yield f"stick, {name}", topple(2, short, towards, rng.uniform(80, 92)), 2 + short
        yield f"knees, {name}", crumple(2, long, towards), 2 + long


def others(rng: np.random.Generator) -> Iterator[tuple[str, Motion]]:
    """Motions that are no falls."""
    for towards in rng.uniform(0, 360, _CLIPS):
        yield "sit down, 0.6-1.5 s", sit(2, rng.uniform(0.6, 1.5), towards)
        yield "sit down, 0.4-0.6 s", sit(2, rng.uniform(0.4, 0.6), towards)
        yield "lie down, 2.5-4 s", lie_slowly(2, rng.uniform(2.5, 4), towards)
        yield "sit, then lie, 3-5 s", crumple(2, rng.uniform(3, 5), towards, rest=rng.uniform(0, 1.5))
        yield "bend down, 0.5-1.5 s", bend(2, rng.uniform(0.5, 1.5), towards, rng.uniform(60, 110))
        yield "crouch, 0.5-1 s", crouch(2, rng.uniform(0.5, 1), towards)
        yield "squats, 1-2 s", squats(2, rng.uniform(1, 2), towards, 3)
        yield "walk", walk(rng.uniform(0.5, 1.8), towards)
        yield "stand", stand


def events(
    body: Doubles, motions: Sequence[Motion], seconds: float, rules: Rules, rng: np.random.Generator
) -> list[list[TrackingEvent]]:
    """The events of each motion. All are seen at one frame rate, but each by a camera of its own."""
    fps = float(rng.choice([8, 10, 15, 25, 30]))
    films = []
    for motion in motions:
        seen = Shooting(
            fps,
            pitch=rng.uniform(0, 30),
            zoom=rng.uniform(60, 250),
            noise=rng.uniform(0.02, 0.05),
            missing=rng.uniform(0.02, 0.08),
        )
        films.append(seen.film(body, motion, seconds, rng))
    bodies, told = BodyRules(rules, COCO_17), []
    for at in zip(*films, strict=True):
        told += bodies.update(together([poses for _, poses in at]), WIDTH, HEIGHT, at[0][0])[1]
    return [[event for event in told if event.id == person] for person in range(1, len(motions) + 1)]


def measure_falls(bodies: list[Doubles], rng: np.random.Generator) -> list[Row]:
    """Recall by the kind of fall, and false events by the kind of motion."""
    rows: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    rules = Rules(fall=FallRule())
    for body in bodies:
        names, motions, ends = zip(*falls(rng), strict=True)
        for name, end, clip in zip(names, ends, events(body, motions, 6.5, rules, rng), strict=True):
            right = sum(2 <= event.timestamp <= end + 2 for event in clip)
            row = rows["fall", name]
            row[0], row[1], row[2] = row[0] + 1, row[1] + (right > 0), row[2] + len(clip) - (right > 0)
        names, motions = zip(*others(rng), strict=True)
        for name, clip in zip(names, events(body, motions, 9, rules, rng), strict=True):
            row = rows["no fall", name]
            row[0], row[2] = row[0] + 1, row[2] + len(clip)
    return list(_falls(dict(sorted(rows.items()))))


def _falls(rows: dict[tuple[str, str], list[int]]) -> Iterator[Row]:
    for (kind, name), (clips, right, false) in rows.items():
        yield {
            "what": kind,
            "motion": name,
            "clips": clips,
            **({"recall": round(right / clips, 3)} if kind == "fall" else {}),
            "false": false,
        }
    for which in ("", "sideways", "oblique", "to or from"):
        some = [row for (kind, name), row in rows.items() if kind == "no fall" or which in name]
        right, false = sum(row[1] for row in some), sum(row[2] for row in some)
        clips = sum(row[0] for (kind, name), row in rows.items() if kind == "fall" and which in name)
        yield {
            "what": "all",
            "motion": f"falls {which}, and no falls" if which else "all falls, and no falls",
            "clips": sum(row[0] for row in some),
            "recall": round(right / clips, 3),
            "precision": round(right / max(right + false, 1), 3),
        }


def measure_repetitions(bodies: list[Doubles], rng: np.random.Generator) -> list[Row]:
    """Squats that are counted, seen from the side and obliquely, and what is counted of other motions."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for body in bodies:
        clips: list[tuple[str, Motion, Doubles]] = []
        for _ in range(_CLIPS):
            side, count, seconds = rng.choice([0, 180]), int(rng.integers(1, 6)), rng.uniform(1.2, 3)
            for name, low, high in (("squats, 0-30 from the side", 0, 30), ("squats, 30-60", 30, 60)):
                towards = side + rng.choice([-1, 1]) * rng.uniform(low, high)
                ends = np.asarray(1.5 + seconds * np.arange(1, count + 1), np.float64)
                clips.append((name, squats(1.5, seconds, towards, count), ends))
            for name, motion in (("walk", walk(1.2, side)), ("bend down", bend(2, 1, side, 90)), ("stand", stand)):
                clips.append((name, motion, np.zeros(0)))
        told = events(body, [motion for _, motion, _ in clips], 18, _SQUATS, rng)
        for (name, _, ends), clip in zip(clips, told, strict=True):
            times = np.array([event.timestamp for event in clip])
            seconds = float(ends[0] - 1.5) if len(ends) else 0.0
            right = int(sum((np.abs(times - end) <= 0.4 * seconds).any() for end in ends))
            row = rows[name]
            row[:] = row[0] + 1, row[1] + len(ends), row[2] + right, row[3] + len(clip) - right
    return [
        {
            "what": "repetitions",
            "motion": name,
            "clips": clips,
            **(
                {"recall": round(right / true, 3), "precision": round(right / max(right + false, 1), 3)} if true else {}
            ),
            "false": false,
        }
        for name, (clips, true, right, false) in rows.items()
    ]


def measure_postures() -> list[Row]:
    """Labelled people, each seen for one frame."""
    annotations = json.loads((SHARED / "data/coco/person_keypoints.json").read_text("utf-8"))["annotations"]
    rows = []
    for posture, labelled in (("standing", _STANDING), ("sitting", _SITTING)):
        said: dict[str, int] = defaultdict(int)
        for annotation in (each for each in annotations if each["id"] in labelled):
            points = np.array(annotation["keypoints"], np.float32).reshape(1, 17, 3)
            box, one = np.array([[0, 0, 1, 1]], np.float32), np.ones(1, np.float32)
            poses = Poses(points[..., :2], np.minimum(points[..., 2], 1), box, one, COCO_17, np.array([1]))
            results, _ = BodyRules(Rules(posture=True), COCO_17).update(poses, 640, 640, 0.0)
            assert results.postures is not None
            number = int(results.postures[0])
            said[POSTURES[number] if number >= 0 else "unknown"] += 1
        count = sum(said.values())
        found = ", ".join(f"{name} {n}" for name, n in said.items())
        rows.append(
            {
                "what": "posture",
                "motion": f"{posture}: {found}",
                "clips": count,
                "recall": round(said[posture] / count, 3),
            }
        )
    return rows


def measure_cost(people: int = 20, frames: int = 400) -> list[Row]:
    """Milliseconds a frame with 20 people, the median of 400."""
    rng = np.random.default_rng(0)
    film = [Shooting(fps=25).film(figure(), walk(1, n), 1, rng) for n in range(people)]
    crowd = [together([poses for _, poses in at]) for at in zip(*film, strict=True)]
    angles = tuple(map(AngleRule.named, NAMED_ANGLES))
    ground = GroundPlane(((0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 4.0, 0.0), (1.0, 1.0, 4.0, 3.0), (0.0, 1.0, 0.0, 3.0)))
    repetitions = tuple(RepetitionRule(angle.name, angle, 60, 150) for angle in angles[:2])
    kinds = {
        "8 angles": Rules(angles=angles),
        "posture": Rules(posture=True),
        "fall": Rules(fall=FallRule()),
        "2 repetitions": Rules(repetitions=repetitions),
        "speed": Rules(ground=ground),
        "all of them": Rules(angles, True, FallRule(), repetitions, ground=ground),
    }
    rows = []
    for name, rules in kinds.items():
        bodies, spent = BodyRules(rules, COCO_17), []
        for n in range(frames):
            began = time.perf_counter()
            results, _ = bodies.update(crowd[n % len(crowd)], WIDTH, HEIGHT, n / 25)
            middle = time.perf_counter()
            results.people_documents(people)
            spent.append((middle - began, time.perf_counter() - middle))
        computing, writing = 1e3 * np.median(np.array(spent), axis=0)
        rows.append(
            {"what": f"cost, {people} people", "motion": name, "ms": round(computing, 3), "json ms": round(writing, 3)}
        )
    return rows


def run(*, tuning: bool = False) -> list[Row]:
    """Measure everything. tuning: with the skeletons that the thresholds were set with."""
    rows: list[Row] = []
    if SHARED.is_dir():
        bodies = [figure(*skeleton) for skeleton in skeletons()[not tuning :: 2]]
        print(f"{len(bodies)} skeletons", file=sys.stderr)
        rng = np.random.default_rng(1 if tuning else 2)
        rows += measure_falls(bodies, rng) + measure_repetitions(bodies, rng) + measure_postures()
    else:
        print("only the cost: there is no ../shared with real skeletons", file=sys.stderr)
    return rows + measure_cost()


if __name__ == "__main__":
    tuning = "--tuning" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--tuning"]
    main(partial(run, tuning=tuning))
