"""The form that PoseTrack's files had in 2017: MPII's annolist, where every value is a list of one."""

from __future__ import annotations

import numpy as np

from engines.poses import Floats
from engines.skeletons import POSETRACK_15
from service.formats.parsing import Node
from service.formats.sequence import PoseFrame, gather

_FAINT = np.float32(1e-6)
_HEAD = ("x1", "y1", "x2", "y2")


def read_annolist(annolist: Node) -> tuple[PoseFrame, ...]:
    """The frames of an annolist. Joints are numbered as those of POSETRACK_15. Raises FormatError."""
    return tuple(_frame(entry) for entry in annolist)


def _frame(entry: Node) -> PoseFrame:
    people = list(entry.get("annorect") or ())
    labelled, number = entry.get("is_labeled"), entry.get("imgnum")
    heads = [person for person in people if person.get("x1") is not None]
    return PoseFrame(
        name=_only(entry["image"])["name"].text(),
        poses=gather(POSETRACK_15, (_person(person) for person in people)),
        number=None if number is None else _only(number).integer(),
        head_boxes=np.array([[_only(person[key]).number() for key in _HEAD] for person in heads], np.float32)
        if heads and len(heads) == len(people)
        else None,
        ignored=tuple(_points(region)[:, 1:3] for region in entry.get("ignore_regions") or ()),
        labelled=bool(people) if labelled is None else bool(_only(labelled).value),
    )


def _person(person: Node) -> tuple[Floats, Floats, Floats | None, float | None, int | None]:
    keypoints = np.zeros((len(POSETRACK_15), 2), np.float32)
    scores = np.zeros(len(POSETRACK_15), np.float32)
    points = person.get("annopoints")
    if points is not None and points.value:
        rows = _points(_only(points))
        joints = rows[:, 0].astype(int)
        if not ((joints >= 0) & (joints < len(POSETRACK_15))).all():
            raise points.error(f"has joints {joints.tolist()}; PoseTrack's are 0 to {len(POSETRACK_15) - 1}")
        keypoints[joints], scores[joints] = rows[:, 1:3], np.maximum(rows[:, 3], _FAINT)
    score, track = person.get("score"), person.get("track_id")
    return (
        keypoints,
        scores,
        None,
        None if score is None else _only(score).number(),
        None if track is None else _only(track).integer(),
    )


def _points(node: Node) -> Floats:
    """(P, 4) id, x, y and score of the points, 0 and 1 where they have none."""
    points = node["point"]
    rows = [[_value(point, key, default) for key, default in _COLUMNS] for point in points]
    return np.array(rows, np.float32).reshape(-1, len(_COLUMNS))


_COLUMNS = (("id", 0.0), ("x", None), ("y", None), ("score", 1.0))


def _value(point: Node, key: str, default: float | None) -> float:
    value = point.get(key) if default is not None else point[key]
    return default if value is None and default is not None else _only(value or point[key]).number()


def _only(node: Node) -> Node:
    """The value itself, or the only one of its list."""
    if not isinstance(node.value, list):
        return node
    if len(node.value) != 1:
        raise node.error(f"must be a list of one, not of {len(node.value)}")
    return next(iter(node))
