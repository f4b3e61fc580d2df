"""COCO's files: annotations and results are read as they were written."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from engines.skeletons import COCO_17, HALPE_26
from service.evaluation import keypoint_ap
from service.formats.coco import coco_annotations, coco_results, read_coco, read_coco_results, read_coco_truth
from service.formats.parsing import FormatError
from service.formats.sequence import PoseFrame, PoseSequence
from tests.service.formats.people import two_people
from tests.service.formats.sequences import assert_same_people, few, save, sequences
from tests.shared import SHARED, needs_shared


def video(number: int = 42) -> PoseSequence:
    return PoseSequence("video", COCO_17, (PoseFrame("a.jpg", two_people(), number=number, width=640, height=480),))


@few
@given(sequences(HALPE_26))
def test_annotations_are_read_as_written(written: PoseSequence) -> None:
    with TemporaryDirectory() as folder:
        read = read_coco(save(Path(folder) / "video.json", coco_annotations(written)))
    assert (read.name, read.skeleton) == ("video", HALPE_26)
    for ours, theirs in zip(read.frames, written.frames, strict=True):
        assert (ours.name, ours.number, ours.width, ours.height) == (theirs.name, theirs.number, 640, 480)
        assert_same_people(ours.poses, theirs.poses, scores=False)
        np.testing.assert_array_equal(ours.poses.scores, theirs.poses.scores)


@few
@given(sequences(COCO_17))
def test_results_are_read_as_written_except_frames_without_people(written: PoseSequence) -> None:
    rows = [row for n, frame in enumerate(written.frames) for row in coco_results(frame.poses, image_id=n)]
    with TemporaryDirectory() as folder:
        read = read_coco(save(Path(folder) / "results.json", rows))
    peopled = [frame for frame in written.frames if len(frame.poses)]
    for ours, theirs in zip(read.frames, peopled, strict=True):
        assert ours.number == theirs.number
        assert_same_people(ours.poses, theirs.poses, scores=False)


def test_pycocotools_reads_annotations(tmp_path: Path) -> None:
    truth = read_coco_truth(save(tmp_path / "gt.json", coco_annotations(video())))
    results = read_coco_results(save(tmp_path / "pred.json", coco_results(two_people(), image_id=42)))
    assert keypoint_ap(truth, results).ap == pytest.approx(1)
    person = truth["annotations"][0]
    assert person["num_keypoints"] == 16  # the first keypoint's score is 0
    assert person["keypoints"][:6] == [0, 0, 0, 10.13, 5, 2]
    assert person["area"] == 160 * 80
    assert truth["categories"][0]["skeleton"][0] == [6, 8]  # from left shoulder to left elbow, counted from 1


def test_crowds_are_left_out(tmp_path: Path) -> None:
    document: dict[str, Any] = coco_annotations(video())
    document["annotations"][0]["iscrowd"] = 1
    assert len(read_coco(save(tmp_path / "gt.json", document)).frames[0].poses) == 1


def test_a_score_as_visibility_is_kept(tmp_path: Path) -> None:
    row = {"image_id": 7, "category_id": 1, "score": 0.5, "keypoints": [1, 2, 0.25] * 17}
    (frame,) = read_coco(save(tmp_path / "pred.json", [row])).frames
    assert (frame.name, frame.number) == ("7", 7)
    assert set(frame.poses.keypoint_scores[0]) == {0.25}
    assert frame.poses.ids is None


def test_errors_are_reported(tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(save(tmp_path / "gt.json", coco_annotations(video())).read_bytes())
    document["annotations"][1]["image_id"] = 43
    with pytest.raises(FormatError, match=r"gt\.json: annotations name image 43, which is not one of the images"):
        read_coco(save(tmp_path / "gt.json", document))
    with pytest.raises(FormatError, match=r"gt\.json: annotations\[1\]\.image_id is none of the images"):
        read_coco_truth(save(tmp_path / "gt.json", document))
    document["categories"][0]["keypoints"][0] = "tail"
    with pytest.raises(FormatError, match=r"categories\[0\]\.keypoints are those of none of the skeletons coco-17"):
        read_coco(save(tmp_path / "gt.json", document))
    with pytest.raises(FormatError, match="results are a list of people"):
        read_coco_results(tmp_path / "gt.json")
    with pytest.raises(FormatError, match="the truth must be COCO's annotations"):
        read_coco_truth(save(tmp_path / "pred.json", []))


@needs_shared
def test_real_annotations_are_read() -> None:
    sequence = read_coco(SHARED / "data/coco/person_keypoints.json")
    assert len(sequence) == 36
    assert sum(len(frame.poses) for frame in sequence.frames) > 68
