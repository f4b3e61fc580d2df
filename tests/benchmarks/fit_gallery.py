"""Fits the constants of the gallery of absent people: python -m tests.benchmarks fit_gallery [--json FILE]

Needs ../shared. Draws the scenes of `returns --tune`, whose people are in none of the scenes that are reported, and
keeps the colours that everybody had on leaving, and the colours of everybody who enters after one to eight looks. Pairs
of these, of all scenes with all, are samples. Weighted logistic regression (Newton's method) gives the weights of
`gallery.likeness`. One person and two people count alike, and pairs of two people of one video, who are harder to tell
apart as they share the light and the fashion, as much as all others. Where pictures of one person are a single picture
(COCO) they count less. Reported are, after eight looks, the shares of pairs above odds of 2.5 in the fit and in use.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Floats
from engines.skeletons import COCO_17
from service.tracking import colours
from service.tracking.gallery import FITTED, LooksWeights, likeness
from service.tracking.similarity import Observed
from tests.benchmarks.report import Row, main
from tests.benchmarks.returns.__main__ import make_scenes
from tests.benchmarks.returns.scenes import ReturnScene, SceneFrame
from tests.shared import SHARED

_SCENES = 54
_LOOKS = (1, 2, 3, 4, 6, 8)
"""Numbers of looks at a newcomer; scenes have eight frames a second."""
_FEWEST = 4
"""Looks at somebody who is remembered."""
_STRANGER = 2
_ODDS = math.log(2.5)
_WEIGHTS = {"one person, video": 0.35, "one person, photo": 0.15, "two, anywhere": 0.25, "two of one video": 0.25}


class Seen(NamedTuple):
    """What a person looked like. known: (P, 4) pooled colours. age: seconds for which they were seen. looks: how many
    times."""

    visit: tuple[int, int, int]
    name: str
    known: Floats
    age: float
    looks: int


class Samples(NamedTuple):
    """Pairs: terms (S, 4) by which the weights are multiplied, the kind (S,) as in `_WEIGHTS`, and the looks (S,)."""

    terms: Doubles
    kinds: NDArray[np.intp]
    looks: NDArray[np.intp]


def seen_in(number: int, scene: ReturnScene, frames: Iterable[SceneFrame]) -> Iterator[tuple[bool, Seen]]:
    """Yield what people looked like in a scene: on leaving after the first visit, with True, and on entering."""
    sides = colours.sides(COCO_17)
    learned: dict[tuple[int, int], tuple[Floats, float, float, int]] = {}
    for frame in frames:
        poses = frame.poses
        seen = Observed.of(poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, 0.2)
        shown = colours.sample(frame.pixels, seen.points, seen.boxes, seen.areas)
        for row, role in enumerate(frame.roles.tolist()):
            visits = scene.roles[role].visits
            visit = next(n for n, one in enumerate(visits) if one.begin <= frame.seconds < one.end)
            fresh = np.zeros((1, len(COCO_17), 4), np.float32), frame.seconds, frame.seconds, 0
            of, first, last, looks = learned.get((role, visit), fresh)
            entering = visit > 0 or role == _STRANGER
            elapsed, age = np.array([frame.seconds - last]), np.array([last - first])
            colours.learn(of, np.array([0]), shown, np.array([row]), elapsed, age, np.array([entering]))
            learned[role, visit] = of, first, frame.seconds, looks + 1
            if entering and looks + 1 in _LOOKS:
                known = colours.pooled(of, sides)[0]
                name = scene.roles[role].performer.name
                yield False, Seen((number, role, visit), name, known, frame.seconds - first, looks + 1)
    for (role, visit), (of, first, last, looks) in learned.items():
        if visit == 0 and looks >= _FEWEST:
            known = colours.pooled(of, sides)[0]
            yield True, Seen((number, role, visit), scene.roles[role].performer.name, known, last - first, looks)


def pairs(left: Sequence[Seen], entering: Sequence[Seen]) -> Samples:
    """All pairs that can be compared, but for those of one visit."""
    known, seen = np.stack([one.known for one in left]), np.stack([one.known for one in entering])
    ages = np.array([one.age for one in entering])
    # The evidence is linear in the weights.
    units = [LooksWeights(*row) for row in np.eye(len(fields(LooksWeights))).tolist()]
    terms = np.stack([likeness(known, seen, ages, by)[0] for by in units], axis=-1).astype(np.float64)
    _, compared = likeness(known, seen, ages)
    usable = compared >= colours.LEAST
    usable &= np.array([[one.visit != other.visit for other in entering] for one in left])
    kinds = np.array([[_kind(one.name, other.name) for other in entering] for one in left])
    looks = np.broadcast_to([one.looks for one in entering], usable.shape)
    return Samples(terms[usable], kinds[usable], looks[usable])


def _kind(name: str, other: str) -> int:
    photo = name.startswith("coco")
    if name == other:
        return 1 if photo else 0
    return 3 if not photo and name.split()[0] == other.split()[0] else 2


def fit(given: Samples) -> LooksWeights:
    """Minimise the weighted log loss."""
    weights = np.zeros(len(given.kinds))
    for kind, share in enumerate(_WEIGHTS.values()):
        here = given.kinds == kind
        weights[here] = share / max(1, here.sum())
    same, by = given.kinds <= 1, np.zeros(given.terms.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-given.terms @ by))
        gradient = given.terms.T @ (weights * (same - chance)) - 1e-5 * by
        curvature = (given.terms * (weights * chance * (1 - chance))[:, None]).T @ given.terms
        by += np.linalg.solve(curvature + 1e-5 * np.eye(len(by)), gradient)
    return LooksWeights(*by.tolist())


def _above(given: Samples, by: LooksWeights, kind: int) -> str:
    chosen = (given.kinds == kind) & (given.looks == max(_LOOKS))
    value = given.terms[chosen] @ np.array(astuple(by))
    return f"{np.mean(value > _ODDS):.3f} of {len(value)}" if len(value) else ""


def run() -> list[Row]:
    """A row per weight and per kind of pairs."""
    left: list[Seen] = []
    entering: list[Seen] = []
    for number, scene in enumerate(make_scenes(tune=True, count=_SCENES)):
        for gone, one in seen_in(number, scene, scene.frames()):
            (left if gone else entering).append(one)
        print(f"scene {number + 1} of {_SCENES}", file=sys.stderr, flush=True)
    given = pairs(left, entering)
    fitted = fit(given)
    rows: list[Row] = [
        {"name": one.name, "in use": f"{getattr(FITTED, one.name):.2f}", "fitted": f"{getattr(fitted, one.name):.2f}"}
        for one in fields(LooksWeights)
    ]
    for kind, name in enumerate(_WEIGHTS):
        rows.append({"name": name, "in use": _above(given, FITTED, kind), "fitted": _above(given, fitted, kind)})
    return rows


if __name__ == "__main__":
    if not (SHARED / "data/coco").is_dir():
        print("this needs the real data in ../shared", file=sys.stderr)
        sys.exit(2)
    main(run)
