"""OpenPose's JSON output, version 1.3 (its doc/02_output.md): the 25 keypoints of BODY_25, the face and the hands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson

from engines.poses import Floats, Poses
from engines.skeletons import FACE_68, HANDS_42, OPENPOSE_25, Skeleton, derivable
from service.formats.parsing import FormatError, JsonNode
from service.formats.people import keypoint_rows
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather

_VERSION = 1.3
_NOBODY = -1
_SUFFIX = "_keypoints"
"""OpenPose appends this to the image's name for the name of its file."""

_HAND = len(HANDS_42) // 2
_PUPILS = 2
_PARTS = {
    "pose_keypoints_2d": (OPENPOSE_25, slice(None), 0),
    "face_keypoints_2d": (FACE_68, slice(None), _PUPILS),
    "hand_left_keypoints_2d": (HANDS_42, slice(_HAND), 0),
    "hand_right_keypoints_2d": (HANDS_42, slice(_HAND, None), 0),
}
"""The skeleton that has each part's keypoints, where in it, and how many keypoints OpenPose has after them that no
skeleton here has."""
_IN_3D = ("pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")
"""Keypoints that are not written. Readers expect the keys."""


def fits_openpose(skeleton: Skeleton) -> bool:
    """True if OpenPose's format has any of a skeleton's keypoints."""
    return any(derivable(skeleton, target).any() for target, _, _ in _PARTS.values())


def openpose_document(poses: Poses) -> dict[str, object]:
    """Convert a frame. Each person has the id (-1 without tracking), and lists of x1, y1, score1, ... for the body
    (25 keypoints), the face (70) and each hand (21). A list is empty if the poses' skeleton has none of its keypoints.

    Single keypoints that the skeleton does not have are 0, 0, 0, as OpenPose writes keypoints that it did not find.
    Pixels have 2 decimals, scores 3. Numbers are numpy's, for orjson with OPT_SERIALIZE_NUMPY.
    Raises FormatError if there is no place for any keypoint.
    """
    if not fits_openpose(poses.skeleton):
        raise FormatError(f"OpenPose's format has no keypoint of {poses.skeleton.name}")
    ids = [_NOBODY] * len(poses) if poses.ids is None else poses.ids.tolist()
    parts = {key: _part(poses, *place) for key, place in _PARTS.items()}
    people = [
        {"person_id": [number], **{key: rows[n] for key, rows in parts.items()}, **{key: [] for key in _IN_3D}}
        for n, number in enumerate(ids)
    ]
    return {"version": _VERSION, "people": people}


def _part(poses: Poses, target: Skeleton, where: slice, missing: int) -> Floats:
    """The numbers of a part for each person, (N, 3P), P = 0 if the poses have none of its keypoints."""
    if not derivable(poses.skeleton, target)[where].any():
        return np.zeros((len(poses), 0), np.float32)
    converted = poses.as_skeleton(target)
    rows = keypoint_rows(converted.keypoints[:, where], converted.keypoint_scores[:, where])
    return np.pad(rows, ((0, 0), (0, missing), (0, 0))).reshape(len(poses), 3 * (rows.shape[1] + missing))


def write_openpose(sequence: PoseSequence, folder: Path) -> None:
    """Write one file per frame, named after its image, as OpenPose's --write_json. Creates the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame in sequence.frames:
        document = orjson.dumps(openpose_document(frame.poses), option=orjson.OPT_SERIALIZE_NUMPY)
        (folder / f"{Path(frame.name).stem}{_SUFFIX}.json").write_bytes(document)


def read_openpose(path: Path) -> PoseSequence:
    """Read a file with one frame or a list of frames, or a folder of files, ordered by name. Raises FormatError.

    A person's score is the mean score of the keypoints that were found; the box encloses these keypoints.
    """
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise FormatError(f"{path}: has no *.json; OpenPose writes one a frame")
    frames = []
    for file in files:
        root = JsonNode.read(file)
        documents = list(root) if isinstance(root.value, list) else [root]
        name = file.stem.removesuffix(_SUFFIX)
        people = ([_person(person) for person in document["people"]] for document in documents)
        frames += [PoseFrame(name, gather(OPENPOSE_25, listed)) for listed in people]
    return PoseSequence(path.stem, OPENPOSE_25, tuple(frames))


def _person(person: JsonNode) -> SequencePerson:
    found = person["pose_keypoints_2d"]
    if isinstance(found.value, list) and len(found.value) != 3 * len(OPENPOSE_25):
        raise found.error(
            f"has {len(found.value)} numbers, not {3 * len(OPENPOSE_25)}; only BODY_25 is read (--model_pose BODY_25)"
        )
    rows = found.numbers((len(OPENPOSE_25), 3))
    number = person.optional("person_id", lambda node: node.only().integer())
    return SequencePerson(rows[:, :2], rows[:, 2].clip(0), identity=None if number == _NOBODY else number)
