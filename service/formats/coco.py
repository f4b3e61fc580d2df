"""COCO's formats for keypoints: annotations ("Data Format") and results ("Results Format", cocodataset.org)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floats, Poses
from engines.skeletons import COCO_17, COCO_WHOLEBODY_133, SKELETONS, Skeleton, derivable
from service.formats.parsing import JsonNode, Skeletons, distinct, skeleton_of
from service.formats.people import records
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather

_PERSON = 1
_LIMBS = slice(COCO_17.keypoints.index("left_shoulder"), None)
_WHOLE_BODY = {
    "foot_kpts": slice(17, 23),
    "face_kpts": slice(23, 91),
    "lefthand_kpts": slice(91, 112),
    "righthand_kpts": slice(112, 133),
}
"""What COCO-WholeBody adds to a person's keypoints: the member, and where its keypoints are in COCO_WHOLEBODY_133."""
_MOST_DIGITS = 16
_LABELLED = 2
"""COCO's visibility of a keypoint that is labelled and visible. 1 stands for a labelled but hidden keypoint."""


def coco_results(poses: Poses, image_id: int) -> list[dict[str, object]]:
    """Return one entry per person, with the keypoints as x1, y1, v1, ... and the box as x, y, width, height.

    The keypoints are COCO's 17 if the skeleton has their shoulders, arms, hips and legs, else all of its own. Those of
    whole bodies also have foot_kpts, face_kpts, lefthand_kpts and righthand_kpts, as in COCO-WholeBody.
    The visibility v is 1, which COCO recommends for results, or 0 for a keypoint that is not in the model's skeleton or
    has score 0. The format has no keypoint scores. If there are ids, each person has a `track_id`, which is an addition
    to COCO. Pixels have 2 decimals, scores 3. Numbers are numpy's, for orjson with OPT_SERIALIZE_NUMPY.
    image_id: the image's number in the annotations.
    """
    parts = {}
    if poses.skeleton == COCO_WHOLEBODY_133:
        rows = _rows(poses.keypoints, poses.keypoint_scores > 0)
        parts = {key: _flat(rows[:, where]) for key, where in _WHOLE_BODY.items()}
    if derivable(poses.skeleton, COCO_17)[_LIMBS].all():
        poses = poses.as_skeleton(COCO_17)
    return person_entries(poses, image_id, poses.keypoints, poses.keypoint_scores > 0, **parts)


def person_entries(
    poses: Poses, image_id: int, points: Floats, visibility: NDArray[Any], **more: Iterable[object]
) -> list[dict[str, object]]:
    """Return the entries of a frame's people. points: (N, K, 2) pixels. visibility: (N, K). more: further fields."""
    return records(
        poses,
        "track_id",
        image_id=[image_id] * len(poses),
        category_id=[_PERSON] * len(poses),
        keypoints=_flat(_rows(points, visibility)),
        score=poses.scores.round(3),
        bbox=sized(poses.boxes),
        **more,
    )


def _rows(points: Floats, visibility: NDArray[Any]) -> Floats:
    return np.concatenate([points.round(2), visibility[..., None]], axis=2, dtype=np.float32)


def _flat(rows: Floats) -> Floats:
    """(N, K, 3) to (N, 3K), contiguous, as orjson requires."""
    return np.ascontiguousarray(rows).reshape(len(rows), 3 * rows.shape[1])


def image_ids(stems: Sequence[str], otherwise: Sequence[int]) -> list[int]:
    """Return image numbers for files named `stems`: the names themselves if all are different numbers, as in COCO;
    else `otherwise`.
    """
    if all(stem.isascii() and stem.isdigit() and len(stem) < _MOST_DIGITS for stem in stems):
        numbers = [int(stem) for stem in stems]
        if len(set(numbers)) == len(numbers):
            return numbers
    return list(otherwise)


def coco_annotations(sequence: PoseSequence) -> dict[str, object]:
    """Convert poses to ground truth. Keypoints with a score are labelled. A person's area is that of the box.

    Adds track ids and people's scores as `track_id` and `score`, which COCO does not have. Numbers as `coco_results`.
    """
    skeleton = sequence.skeleton
    annotations: list[dict[str, object]] = []
    for number, frame in sequence.numbered():
        poses, first = frame.poses, len(annotations) + 1
        labelled = poses.keypoint_scores > 0
        annotations += person_entries(
            poses,
            number,
            np.where(labelled[..., None], poses.keypoints, 0),
            _LABELLED * labelled,
            id=range(first, first + len(poses)),
            iscrowd=[0] * len(poses),
            num_keypoints=labelled.sum(axis=1),
            area=sized(poses.boxes)[:, 2:].prod(axis=1).round(2),
        )
    limbs = [[a + 1, b + 1] for a, b in skeleton.limbs]  # COCO counts keypoints from 1
    person = {"id": _PERSON, "name": "person", "keypoints": skeleton.keypoints, "skeleton": limbs}
    images = [image_entry(number, frame) for number, frame in sequence.numbered()]
    return {"images": images, "annotations": annotations, "categories": [person]}


def read_coco(path: Path, skeletons: Skeletons = SKELETONS) -> PoseSequence:
    """Read annotations or results as a sequence with one frame per image, without crowds. Raises FormatError.

    skeletons: that the file may have, by name.

    In annotations, labelled keypoints have score 1. Results do not name images, so their frames are in the order of
    image_id, and a keypoint's score is the value of its visibility.
    """
    root = JsonNode.read(path)
    if isinstance(root.value, list):
        by_image = root.by_image()
        frames = [PoseFrame(str(n), _people(by_image[n], COCO_17, truth=False), n) for n in sorted(by_image)]
        return PoseSequence(path.stem, COCO_17, tuple(frames))
    skeleton = _skeleton(root, skeletons)
    by_image = root["annotations"].by_image()
    frames = []
    _ids(root["images"], "image")
    for image in root["images"]:
        number = image["id"].integer()
        poses = _people(by_image.pop(number, []), skeleton, truth=True)
        width, height = (image.optional(side, JsonNode.integer) for side in ("width", "height"))
        frames.append(PoseFrame(image["file_name"].text(), poses, number, width=width, height=height))
    if by_image:
        raise root["annotations"].error(f"name image {min(by_image)}, which is not one of the images")
    return PoseSequence(path.stem, skeleton, tuple(frames))


def read_coco_truth(path: Path, count: int | None = None, skeletons: Skeletons = SKELETONS) -> dict[str, Any]:
    """Read annotations, and check the fields that `service.evaluation.keypoint_ap` needs. Raises FormatError.

    count: of the keypoints, whatever their names; None for those of the skeleton of `skeletons` that the file names.
    With 133, the parts of COCO-WholeBody's annotations are joined to one list of keypoints.
    """
    root = JsonNode.read(path)
    if isinstance(root.value, list):
        raise root.error("is a list, as results are; the truth must be COCO's annotations")
    if count is None:
        count = len(_skeleton(root, skeletons, "; `posewire eval coco --sigmas` takes any keypoints"))
    categories = _ids(root["categories"], "category")
    if not categories:
        raise root["categories"].error("must name a category of people, and is empty")
    images = _ids(root["images"], "image")
    people = []
    for person in root["annotations"]:
        if person["image_id"].integer() not in images:
            raise person["image_id"].error(f"is none of the images: {person['image_id'].value}")
        if person["category_id"].integer() not in categories:
            raise person["category_id"].error(f"is none of the categories: {person['category_id'].value}")
        people.append(_joined(person, count))
        if (area := person["area"].number()) < 0:
            raise person["area"].error(f"must not be below 0, as {area:g} is")
        person["bbox"].corners()
        if person.has("iscrowd"):
            person.member("iscrowd").flag()
        if person.has("num_keypoints") and not 0 <= person.member("num_keypoints").integer() <= count:
            raise person["num_keypoints"].error(f"must be 0 to {count}, not {person['num_keypoints'].value}")
    return {**root.value, "annotations": people}


def skeleton_of_truth(truth: dict[str, Any], skeletons: Skeletons = SKELETONS) -> Skeleton:
    """Return the skeleton of annotations that `read_coco_truth` has read."""
    return _skeleton(JsonNode(truth, ""), skeletons)


def _joined(person: JsonNode, count: int) -> dict[str, Any]:
    """A person with `count` keypoints, which COCO-WholeBody has in several members. Raises FormatError."""
    checked: dict[str, Any] = person.value
    if count != len(COCO_WHOLEBODY_133) or not all(person.has(key) for key in _WHOLE_BODY):
        person["keypoints"].numbers((3 * count,))
        return checked
    parts = {"keypoints": len(COCO_17), **{key: where.stop - where.start for key, where in _WHOLE_BODY.items()}}
    keypoints = [number for key, size in parts.items() for number in person[key].numbers((3 * size,)).tolist()]
    # The file's num_keypoints does not count the other members.
    return {key: value for key, value in checked.items() if key != "num_keypoints"} | {"keypoints": keypoints}


def read_coco_results(path: Path, keypoints: int = len(COCO_17)) -> list[dict[str, Any]]:
    """Read results, and check the fields that `service.evaluation.keypoint_ap` needs. Raises FormatError.

    keypoints: their number. With 133, the parts of COCO-WholeBody's results are joined to one list of keypoints.
    """
    root = JsonNode.read(path)
    if isinstance(root.value, dict):
        raise root.error("is an object; COCO's results are a list of people with image_id, keypoints and score")
    people = []
    for person in root:
        person["image_id"].integer()
        person["category_id"].integer()
        people.append(_joined(person, keypoints))
        person["score"].number()
    return people


def _ids(listed: JsonNode, what: str) -> set[int]:
    return distinct((one["id"] for one in listed), what, JsonNode.integer)


def image_entry(number: int, frame: PoseFrame) -> dict[str, object]:
    """Return the entry of a frame in `images`."""
    image: dict[str, object] = {"id": number, "file_name": frame.name}
    if frame.width is not None and frame.height is not None:
        image |= {"width": frame.width, "height": frame.height}
    return image


def sized(boxes: Floats) -> Floats:
    """Convert boxes (N, 4) x1, y1, x2, y2 to rounded x, y, width, height."""
    x1, y1, x2, y2 = boxes.T
    return np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(2)


def _skeleton(root: JsonNode, skeletons: Skeletons, hint: str = "") -> Skeleton:
    """The skeleton of the first category with keypoints; COCO's if there is none. hint: for what to do otherwise."""
    listed = next((found for one in root["categories"] if (found := one.get("keypoints")) is not None), None)
    if listed is None:
        return COCO_17
    error = listed.error
    names = tuple(name.text() for name in listed)
    return skeleton_of(names, skeletons, lambda problem: error(problem + hint))


def _people(people: list[JsonNode], skeleton: Skeleton, *, truth: bool) -> Poses:
    singles = []
    for person in people:
        if not (person.has("iscrowd") and person.member("iscrowd").flag()):
            rows = person["keypoints"].numbers((len(skeleton), 3))
            scores = (rows[:, 2] > 0).astype(np.float32) if truth else rows[:, 2].clip(0)
            singles.append(tracked_person(person, rows[:, :2], scores))
    return gather(skeleton, singles)


def tracked_person(person: JsonNode, points: Floats, scores: Floats) -> SequencePerson:
    """Return a person of COCO's or PoseTrack's files with these keypoints."""
    return SequencePerson(
        points,
        scores,
        person.optional("bbox", JsonNode.corners),
        person.optional("score", JsonNode.number),
        person.optional("track_id", JsonNode.integer),
    )
