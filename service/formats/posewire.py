"""Posewire's own JSON: people as all results have them, and reading files of `posewire image` and `posewire video`."""

from __future__ import annotations

from pathlib import Path

from engines.poses import Poses
from engines.skeletons import COCO_17, SKELETONS, Skeleton
from service.formats.parsing import JsonNode, Skeletons
from service.formats.people import keypoint_rows, records
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather


def people_list(poses: Poses) -> list[dict[str, object]]:
    """Return for each person: score, box [x1, y1, x2, y2], keypoints [[x, y, score], ...] and, if the poses have them,
    keypoints_3d [[x, y, z], ...] in metres and id.

    Pixels have 2 decimals, scores and metres 3. Numbers are numpy's, for orjson with OPT_SERIALIZE_NUMPY.
    """
    rows = keypoint_rows(poses.keypoints, poses.keypoint_scores)
    metres = {} if poses.keypoints_3d is None else {"keypoints_3d": poses.keypoints_3d.round(3)}
    return records(poses, "id", score=poses.scores.round(3), box=poses.boxes.round(2), keypoints=rows, **metres)


def read_posewire(path: Path, skeletons: Skeletons = SKELETONS) -> PoseSequence:
    """Read an image, a list of images or a video's frames, without keypoints_3d. Raises FormatError.

    skeletons: that the file may have, by name.
    """
    root = JsonNode.read(path)
    if not isinstance(root.value, list) and root.get("frames") is not None:
        skeleton = _skeleton(root, skeletons)
        return PoseSequence(path.stem, skeleton, tuple(_frame(frame, skeleton) for frame in root["frames"]))
    images = list(root) if isinstance(root.value, list) else [root]
    skeleton = _skeleton(images[0], skeletons) if images else COCO_17
    for image in images:
        if _skeleton(image, skeletons) != skeleton:
            raise image["skeleton"].error(f"differs from {skeleton.name}, that of the first image")
    return PoseSequence(path.stem, skeleton, tuple(_image(image, skeleton) for image in images))


def _skeleton(node: JsonNode, skeletons: Skeletons) -> Skeleton:
    name = node["skeleton"].text()
    if name not in skeletons:
        raise node["skeleton"].error(f"is {name!r}, none of {', '.join(skeletons)}")
    return skeletons[name]


def _frame(frame: JsonNode, skeleton: Skeleton) -> PoseFrame:
    number = frame["frame"].integer()
    return PoseFrame(str(number), _people(frame, skeleton), number, frame["time"].number())


def _image(image: JsonNode, skeleton: Skeleton) -> PoseFrame:
    width, height = image["width"].integer(), image["height"].integer()
    return PoseFrame(image["image"].text(), _people(image, skeleton), width=width, height=height)


def _people(node: JsonNode, skeleton: Skeleton) -> Poses:
    return gather(skeleton, [_person(person, len(skeleton)) for person in node["people"]])


def _person(person: JsonNode, count: int) -> SequencePerson:
    rows = person["keypoints"].numbers((count, 3))
    return SequencePerson(
        rows[:, :2],
        rows[:, 2].clip(0),
        person["box"].numbers((4,)),
        person["score"].number(),
        person.optional("id", JsonNode.integer),
    )
