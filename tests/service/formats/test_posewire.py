"""Posewire's own JSON is read as it was written."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given

from engines.skeletons import COCO_17, HALPE_26
from service.formats.frames import FramesFile
from service.formats.parsing import FormatError
from service.formats.people import people_list
from service.formats.posewire import read_posewire
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
