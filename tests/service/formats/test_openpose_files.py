"""OpenPose's files, one per frame."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given

from engines.skeletons import OPENPOSE_25
from service.formats.openpose import openpose_document, read_openpose, write_openpose
from service.formats.parsing import FormatError
from service.formats.sequence import PoseSequence
from tests.service.formats.people import two_people
from tests.service.formats.sequences import assert_same_people, few, save, sequences


@few
@given(sequences(OPENPOSE_25))
def test_a_folder_is_read_as_written(written: PoseSequence) -> None:
    with TemporaryDirectory() as folder:
        target = Path(folder) / "video"
        write_openpose(written, target)
        if not written.frames:
            with pytest.raises(FormatError, match=r"has no \*\.json"):
                read_openpose(target)
            return
        read = read_openpose(target)
    assert read.name == "video"
    for ours, theirs in zip(read.frames, written.frames, strict=True):
        assert f"{ours.name}.jpg" == theirs.name
        assert_same_people(ours.poses, theirs.poses)


def test_files_are_named_as_by_openpose(tmp_path: Path) -> None:
    write_openpose(PoseSequence("none", OPENPOSE_25, ()), tmp_path / "made/here")
    assert (tmp_path / "made/here").is_dir()
    save(tmp_path / "000001_keypoints.json", openpose_document(two_people()))
    assert read_openpose(tmp_path / "000001_keypoints.json").frames[0].name == "000001"


def test_a_list_of_documents_is_several_frames(tmp_path: Path) -> None:
    path = save(tmp_path / "all.json", [openpose_document(two_people())] * 3)
    assert [len(frame.poses) for frame in read_openpose(path).frames] == [2, 2, 2]


def test_a_persons_score_is_the_mean_of_found_keypoints(tmp_path: Path) -> None:
    numbers = [5, 6, 0.5, 7, 8, 0.25] + [0] * 69
    (frame,) = read_openpose(save(tmp_path / "a.json", {"people": [{"pose_keypoints_2d": numbers}]})).frames
    assert frame.poses.scores.tolist() == [0.375]
    assert frame.poses.boxes.tolist() == [[5, 6, 7, 8]]
    assert frame.poses.ids is None


def test_other_models_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.json", {"people": [{"pose_keypoints_2d": [0] * 54}]})
    with pytest.raises(FormatError, match=r"people\[0\]\.pose_keypoints_2d has 54 numbers, not 75; only BODY_25"):
        read_openpose(path)
