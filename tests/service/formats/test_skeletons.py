"""All formats take the keypoints of hands, whole bodies, animals and users' own skeletons, or say that they cannot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import orjson
import pytest

from engines.poses import Poses
from engines.skeletons import AP10K_17, COCO_17, COCO_WHOLEBODY_133, HAND_21, HANDS_42, SKELETONS, Skeleton, define
from service.formats.coco import coco_annotations, coco_results, read_coco
from service.formats.frames import FramesFile
from service.formats.openpose import fits_openpose, openpose_document
from service.formats.parsing import FormatError
from service.formats.posetrack import posetrack_document
from service.formats.posewire import read_posewire
from service.formats.sequence import PoseFrame, PoseSequence, extent
from service.formats.table import read_table
from tests.service.formats.sequences import assert_same_people, save

OWN = define("screwdriver", ["tip", "shaft, thin", "collar", "grip", "cap"])
KNOWN = {**SKELETONS, OWN.name: OWN}


def somebody(skeleton: Skeleton) -> Poses:
    """A person with whole pixels."""
    k = np.arange(len(skeleton), dtype=np.float32)
    points, scores = np.stack([10 * k, 3 * k + 7], axis=1)[None], np.full((1, len(skeleton)), 0.5, np.float32)
    return Poses(points, scores, extent(points, scores), np.full(1, 0.5, np.float32), skeleton)


@pytest.mark.parametrize("skeleton", [COCO_WHOLEBODY_133, HANDS_42, AP10K_17, OWN], ids=lambda one: one.name)
@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_a_videos_file_is_read_with_its_skeleton(tmp_path: Path, skeleton: Skeleton, suffix: str) -> None:
    path, poses = tmp_path / f"poses{suffix}", somebody(skeleton)
    with FramesFile(path, suffix, {"video": "a.mp4", "skeleton": skeleton.name}) as file:
        file.write(0, 0.0, poses)
    sequence = (read_posewire if suffix == ".json" else read_table)(path, KNOWN)
    assert_same_people(sequence.frames[0].poses, poses)
    if skeleton is OWN:
        with pytest.raises(FormatError, match="none of "):
            (read_posewire if suffix == ".json" else read_table)(path)


def test_annotations_have_the_keypoints_of_a_users_skeleton(tmp_path: Path) -> None:
    poses = somebody(OWN)
    path = save(tmp_path / "a.json", coco_annotations(PoseSequence("a", OWN, (PoseFrame("a.jpg", poses, 3),))))
    assert_same_people(read_coco(path, KNOWN).frames[0].poses, poses, scores=False)
    with pytest.raises(FormatError, match="those of none of the skeletons coco-17"):
        read_coco(path)


@pytest.mark.parametrize(
    ("skeleton", "count"), [(COCO_WHOLEBODY_133, 17), (HAND_21, 21), (HANDS_42, 42), (AP10K_17, 17), (OWN, 5)]
)
def test_results_have_cocos_keypoints_if_the_arms_and_legs_are_there(skeleton: Skeleton, count: int) -> None:
    poses = somebody(skeleton)
    [person] = json.loads(orjson.dumps(coco_results(poses, 1), option=orjson.OPT_SERIALIZE_NUMPY))
    rows = np.array(person["keypoints"]).reshape(count, 3)
    np.testing.assert_array_equal(rows[:, :2], poses.keypoints[0, :count])
    assert ("face_kpts" in person) == (skeleton is COCO_WHOLEBODY_133)


def test_openpose_has_empty_lists_for_what_a_model_does_not_give() -> None:
    def lengths(skeleton: Skeleton) -> list[int]:
        people = openpose_document(somebody(skeleton))["people"]
        assert isinstance(people, list)
        return [len(part) for part in list(people[0].values())[1:5]]

    assert lengths(COCO_17) == [75, 0, 0, 0]
    assert lengths(HANDS_42) == [0, 0, 63, 63]
    assert lengths(SKELETONS["face-68"]) == [0, 210, 0, 0]
    assert lengths(COCO_WHOLEBODY_133) == [75, 210, 63, 63]
    left = define("left", HANDS_42.keypoints[:21])
    assert lengths(left) == [0, 0, 63, 0]


@pytest.mark.parametrize("skeleton", [HAND_21, OWN])
def test_a_format_without_a_place_for_any_keypoint_says_so(skeleton: Skeleton) -> None:
    assert not fits_openpose(skeleton)
    with pytest.raises(FormatError, match=f"OpenPose's format has no keypoint of {skeleton.name}"):
        openpose_document(somebody(skeleton))
    with pytest.raises(FormatError, match=f"PoseTrack's format has no keypoint of {skeleton.name}"):
        posetrack_document(PoseSequence("a", skeleton, ()))
