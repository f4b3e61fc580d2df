"""Posewire's own JSON, and that files are read as they were written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import orjson
import pytest
from hypothesis import given

from engines.poses import Poses
from engines.skeletons import COCO_17, HALPE_26
from service.formats.frames import FramesFile
from service.formats.parsing import FormatError
from service.formats.posewire import people_list, read_posewire
from service.formats.sequence import PoseSequence
from tests.service.formats.people import two_people
from tests.service.formats.sequences import assert_same_people, few, save, sequences


@few
@given(sequences(COCO_17))
def test_images_are_read_as_written(written: PoseSequence) -> None:
    images = [
        {"image": f.name, "width": 640, "height": 480, "skeleton": "coco-17", "people": people_list(f.poses)}
        for f in written.frames
    ]
    with TemporaryDirectory() as folder:
        # One image is printed as an object, several as a list of them.
        read = read_posewire(save(Path(folder) / "all.json", images[0] if len(images) == 1 else images))
    for ours, theirs in zip(read.frames, written.frames, strict=True):
        assert (ours.name, ours.width, ours.height) == (theirs.name, 640, 480)
        assert_same_people(ours.poses, theirs.poses)


@few
@given(sequences(HALPE_26))
def test_a_videos_frames_are_read_as_written(written: PoseSequence) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video.json"
        with FramesFile(path, ".json", {"video": "a.mp4", "skeleton": "halpe-26"}) as file:
            for n, frame in enumerate(written.frames):
                file.write(n, n / 4, frame.poses)
        read = read_posewire(path)
    assert read.skeleton == HALPE_26
    for n, (ours, theirs) in enumerate(zip(read.frames, written.frames, strict=True)):
        assert (ours.number, ours.timestamp) == (n, n / 4)
        assert_same_people(ours.poses, theirs.poses)


def test_errors_are_reported(tmp_path: Path) -> None:
    image = {"image": "a", "width": 9, "height": 9, "skeleton": "coco-17", "people": people_list(two_people())}
    with pytest.raises(FormatError, match=r"a\.json: skeleton is 'cat', none of coco-17, posetrack-15"):
        read_posewire(save(tmp_path / "a.json", {**image, "skeleton": "cat"}))
    with pytest.raises(FormatError, match=r"\[1\]\.skeleton differs from coco-17, that of the first image"):
        read_posewire(save(tmp_path / "a.json", [image, {**image, "skeleton": "halpe-26"}]))
    with pytest.raises(FormatError, match=r"a\.json: people\[0\]\.keypoints must be a list of 26 x 3 numbers"):
        read_posewire(save(tmp_path / "a.json", {**image, "skeleton": "halpe-26"}))


def as_json(poses: Poses) -> bytes:
    return orjson.dumps(people_list(poses), option=orjson.OPT_SERIALIZE_NUMPY)


def test_a_person_has_a_score_a_box_and_keypoints() -> None:
    first, second = json.loads(as_json(two_people()))

    assert list(first) == ["score", "box", "keypoints"]
    assert first["score"] == 0.988
    assert first["box"] == [0.13, 0.0, 160.13, 80.0]
    assert first["keypoints"][:3] == [[0.13, 0.0, 0.0], [10.13, 5.0, 0.062], [20.13, 10.0, 0.125]]
    assert len(first["keypoints"]) == 17
    assert second["keypoints"][16] == [260.13, 80.0, 0.5]


def test_numbers_are_rounded() -> None:
    assert b'"box":[0.13,0.0,160.13,80.0]' in as_json(two_people())


def test_ids_and_3d_keypoints_are_written_if_there_are_any() -> None:
    metres = np.full((2, 17, 3), 0.12345, np.float32)
    poses = replace(two_people(), ids=np.array([7, 2**40]), keypoints_3d=metres)
    first, second = json.loads(as_json(poses))

    assert first["keypoints_3d"][0] == [0.123, 0.123, 0.123]
    assert (first["id"], second["id"]) == (7, 2**40)


def test_no_people_are_an_empty_list() -> None:
    assert as_json(Poses.empty(COCO_17)) == b"[]"


def test_values_that_are_not_finite_are_null() -> None:
    poses = two_people()
    poses.keypoints[0, 0] = np.nan
    assert json.loads(as_json(poses))[0]["keypoints"][0] == [None, None, 0.0]
