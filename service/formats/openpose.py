"""OpenPose's JSON output, version 1.3 (its doc/02_output.md), with the 25 keypoints of BODY_25."""

from __future__ import annotations

from pathlib import Path

import orjson

from engines.poses import Poses
from engines.skeletons import OPENPOSE_25
from service.formats.parsing import FormatError, JsonNode
from service.formats.people import keypoint_rows
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather

_VERSION = 1.3
_NOBODY = -1
_SUFFIX = "_keypoints"
"""OpenPose appends this to the image's name for the name of its file."""

# Keypoints that Posewire does not estimate. Readers expect the keys.
_OTHER_PARTS = (
    "face_keypoints_2d",
    "hand_left_keypoints_2d",
    "hand_right_keypoints_2d",
    "pose_keypoints_3d",
    "face_keypoints_3d",
    "hand_left_keypoints_3d",
    "hand_right_keypoints_3d",
)


def openpose_document(poses: Poses) -> dict[str, object]:
    """Convert a frame. Each person has the id (-1 without tracking) and pose_keypoints_2d: x1, y1, score1, ...

    Keypoints that the poses' skeleton does not have are 0, 0, 0, as OpenPose writes keypoints that it did not find.
    Pixels have 2 decimals, scores 3. Numbers are numpy's, for orjson with OPT_SERIALIZE_NUMPY.
    """
    poses = poses.as_skeleton(OPENPOSE_25)
    ids = [_NOBODY] * len(poses) if poses.ids is None else poses.ids.tolist()
    people = [
        {"person_id": [number], "pose_keypoints_2d": row.ravel(), **{part: [] for part in _OTHER_PARTS}}
        for number, row in zip(ids, keypoint_rows(poses.keypoints, poses.keypoint_scores), strict=True)
    ]
    return {"version": _VERSION, "people": people}


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
