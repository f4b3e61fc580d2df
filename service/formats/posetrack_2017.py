"""PoseTrack's format of 2017: MPII's annolist, in which every value is a list of one item."""

from __future__ import annotations

import numpy as np

from engines.poses import Floats
from engines.skeletons import POSETRACK_15
from service.formats.parsing import JsonNode, distinct
from service.formats.sequence import FAINT, PoseFrame, SequencePerson, gather

_HEAD = ("x1", "y1", "x2", "y2")


def read_annolist(annolist: JsonNode) -> tuple[PoseFrame, ...]:
    """Read the frames of an annolist. Joints are numbered as in POSETRACK_15. Raises FormatError."""
    distinct((entry["image"] for entry in annolist), "frame", _name)
    return tuple(map(_frame, annolist))


def _frame(entry: JsonNode) -> PoseFrame:
    people = list(entry.get("annorect") or ())
    labelled = entry.optional("is_labeled", lambda node: node.only().flag())
    heads = [person for person in people if person.get("x1") is not None]
    return PoseFrame(
        name=_name(entry["image"]),
        poses=gather(POSETRACK_15, [_person(person) for person in people]),
        number=entry.optional("imgnum", _integer),
        head_boxes=np.array([[_number(person[key]) for key in _HEAD] for person in heads], np.float32)
        if heads and len(heads) == len(people)
        else None,
        ignored=tuple(_rows(region, "x", "y") for region in entry.get("ignore_regions") or ()),
        labelled=bool(people) if labelled is None else labelled,
    )


def _person(person: JsonNode) -> SequencePerson:
    keypoints = np.zeros((len(POSETRACK_15), 2), np.float32)
    scores = np.zeros(len(POSETRACK_15), np.float32)
    points = person.get("annopoints")
    if points is not None and points.value:
        points = points.only()
        rows = _rows(points, "id", "x", "y")
        if not np.isin(rows[:, 0], range(len(POSETRACK_15))).all():
            raise points.error(f"has joints {rows[:, 0].tolist()}; PoseTrack's are 0 to {len(POSETRACK_15) - 1}")
        joints = rows[:, 0].astype(int)
        given = [1.0 if (score := point.optional("score", _number)) is None else score for point in points["point"]]
        keypoints[joints], scores[joints] = rows[:, 1:], np.maximum(np.array(given, np.float32), FAINT)
    score, identity = person.optional("score", _number), person.optional("track_id", _integer)
    return SequencePerson(keypoints, scores, score=score, identity=identity)


def _name(image: JsonNode) -> str:
    return image.only()["name"].text()


def _number(node: JsonNode) -> float:
    return node.only().number()


def _integer(node: JsonNode) -> int:
    return node.only().integer()


def _rows(node: JsonNode, *keys: str) -> Floats:
    """The numbers of the points, (P, len(keys))."""
    rows = [[_number(point[key]) for key in keys] for point in node["point"]]
    return np.array(rows, np.float32).reshape(-1, len(keys))
