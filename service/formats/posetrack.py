"""PoseTrack's files, one per sequence: the 2018 format (COCO with track ids) and the 2017 format (MPII's annolist).

After github.com/leonid-pishchulin/poseval, README, and github.com/anDoer/PoseTrack18 (posetrack.net).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from engines.poses import Floats
from engines.skeletons import COCO_17, POSETRACK_15, derivable
from service.formats.coco import image_entry, person_entries, sized, tracked_person
from service.formats.parsing import FormatError, JsonNode, distinct
from service.formats.posetrack_2017 import read_annolist
from service.formats.sequence import FAINT, PoseFrame, PoseSequence, SequencePerson, gather

KEYPOINTS_2018 = ("nose", "head_bottom", "head_top", *COCO_17.keypoints[3:])
"""The order of the 2018 files. The ears are included, but never labelled."""

_PERSON = 1
_KNOWN = np.isin(KEYPOINTS_2018, POSETRACK_15.keypoints)
_FROM_15 = [POSETRACK_15.keypoints.index(name) if name in POSETRACK_15.keypoints else 0 for name in KEYPOINTS_2018]


def read_posetrack(path: Path) -> PoseSequence:
    """Read truth or results of one sequence, in either format, as POSETRACK_15.

    Keypoints with visibility 0 have score 0; others have their score in `scores`, or 1. Raises FormatError.
    """
    root = JsonNode.read(path)
    if root.get("annolist") is not None:
        return PoseSequence(path.stem, POSETRACK_15, read_annolist(root["annolist"]))
    return PoseSequence(path.stem, POSETRACK_15, tuple(_frames_2018(root)))


def posetrack_document(sequence: PoseSequence) -> dict[str, object]:
    """Convert a sequence to the 2018 format, for orjson with OPT_SERIALIZE_NUMPY. Pixels have 2 decimals, scores 3.

    Raises FormatError if the format has none of the sequence's keypoints.
    """
    if not derivable(sequence.skeleton, POSETRACK_15).any():
        raise FormatError(f"PoseTrack's format has no keypoint of {sequence.skeleton.name}")
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, frame in sequence.numbered():
        images.append(_image(frame, number, len(sequence)))
        poses = frame.poses.as_skeleton(POSETRACK_15)
        scores = poses.keypoint_scores[:, _FROM_15] * _KNOWN
        points = poses.keypoints[:, _FROM_15] * (scores > 0)[..., None]
        numbers = range(len(annotations), len(annotations) + len(poses))
        heads = {} if frame.head_boxes is None else {"bbox_head": sized(frame.head_boxes)}
        listed = np.ascontiguousarray(scores.round(3))
        annotations += person_entries(poses, number, points, scores > 0, id=numbers, scores=listed, **heads)
    category = {"id": _PERSON, "name": "person", "supercategory": "person", "keypoints": KEYPOINTS_2018, "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


def _image(frame: PoseFrame, number: int, frames: int) -> dict[str, object]:
    image = image_entry(number, frame) | {"frame_id": number, "nframes": frames, "is_labeled": frame.labelled}
    if frame.ignored:
        image["ignore_regions_x"] = [region[:, 0].tolist() for region in frame.ignored]
        image["ignore_regions_y"] = [region[:, 1].tolist() for region in frame.ignored]
    return image


def _frames_2018(root: JsonNode) -> Iterator[PoseFrame]:
    people = root["annotations"].by_image()
    order = _order(root)
    images = list(root["images"])
    unknown = set(people) - distinct((image["id"] for image in images), "image", JsonNode.integer)
    distinct((image["file_name"] for image in images), "image", JsonNode.text)
    if unknown:
        raise root["annotations"].error(f"name image_id {min(unknown)}, but images has none of that id")
    for image in images:
        number = image["id"].integer()
        listed = people.get(number, [])
        labelled = image.optional("is_labeled", JsonNode.flag)
        yield PoseFrame(
            name=image["file_name"].text(),
            poses=gather(POSETRACK_15, [_person(person, order) for person in listed]),
            number=number,
            width=image.optional("width", JsonNode.integer),
            height=image.optional("height", JsonNode.integer),
            head_boxes=_head_boxes(listed),
            ignored=tuple(_ignored(image)),
            labelled=bool(listed) if labelled is None else labelled,
        )


def _order(root: JsonNode) -> tuple[list[int], int]:
    """The index of each POSETRACK_15 joint in the file's keypoints, and the number of these keypoints."""
    names: Sequence[str] = KEYPOINTS_2018
    for category in root.get("categories") or ():
        listed = category.get("keypoints")
        if listed is not None:
            names = [name.text() for name in listed]
            missing = [name for name in POSETRACK_15.keypoints if name not in names]
            if missing:
                raise listed.error(f"lacks {', '.join(missing)}; PoseTrack's keypoints are {' '.join(KEYPOINTS_2018)}")
            break
    return [names.index(name) for name in POSETRACK_15.keypoints], len(names)


def _person(person: JsonNode, order: tuple[list[int], int]) -> SequencePerson:
    index, count = order
    rows = person["keypoints"].numbers((count, 3))[index]
    listed = person.get("scores")
    given = np.ones(count, np.float32) if listed is None else listed.numbers((count,))
    scores = np.where(rows[:, 2] > 0, np.maximum(given[index], FAINT), 0).astype(np.float32)
    return tracked_person(person, rows[:, :2], scores)


def _head_boxes(people: list[JsonNode]) -> Floats | None:
    boxes = [person.optional("bbox_head", JsonNode.corners) for person in people]
    found = [box for box in boxes if box is not None]
    return np.stack(found) if found and len(found) == len(people) else None


def _ignored(image: JsonNode) -> Iterator[Floats]:
    columns, lines = image.get("ignore_regions_x"), image.get("ignore_regions_y")
    if columns is None and lines is None:
        return
    if columns is None or lines is None:
        raise image.error("must have both ignore_regions_x and ignore_regions_y, or neither")
    # Some files have one region as a list of numbers, others as a list of such lists.
    if isinstance(columns.value, list) and columns.value and not isinstance(columns.value[0], list):
        columns, lines = JsonNode([columns.value], columns.where), JsonNode([lines.value], lines.where)
    regions, others = list(columns), list(lines)
    if len(regions) != len(others):
        raise lines.error(f"must be as many regions as ignore_regions_x, {len(regions)}, not {len(others)}")
    for xs, ys in zip(regions, others, strict=True):
        x = xs.numbers((-1,))
        yield np.stack([x, ys.numbers((len(x),))], axis=1)
