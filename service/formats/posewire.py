"""Reading Posewire's own JSON: the output of `posewire image` and the files of `posewire video`."""

from __future__ import annotations

from pathlib import Path

from engines.poses import Poses
from engines.skeletons import COCO_17, SKELETONS, Skeleton
from service.formats.parsing import JsonNode, Skeletons
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather


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
