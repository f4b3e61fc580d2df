"""PoseTrack's files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given

from engines.skeletons import COCO_17, POSETRACK_15
from service.formats.parsing import FormatError
from service.formats.posetrack import KEYPOINTS_2018, posetrack_document, read_posetrack
from service.formats.sequence import FAINT, PoseFrame, PoseSequence
from tests.service.formats.people import two_people
from tests.service.formats.sequences import assert_same_people, few, save, sequences
from tests.shared import SHARED, needs_shared

_GOLDENS = SHARED / "goldens/posetrack"


def written(sequence: PoseSequence) -> dict[str, Any]:
    document: dict[str, Any] = orjson.loads(
        orjson.dumps(posetrack_document(sequence), option=orjson.OPT_SERIALIZE_NUMPY)
    )
    return document


@few
@given(sequences(POSETRACK_15))
def test_sequences_are_read_as_written(sequence: PoseSequence) -> None:
    with TemporaryDirectory() as folder:
        read = read_posetrack(save(Path(folder) / "video.json", posetrack_document(sequence)))
    assert read.name == "video"
    for ours, theirs in zip(read.frames, sequence.frames, strict=True):
        assert (ours.name, ours.number, ours.width, ours.height) == (theirs.name, theirs.number, 640, 480)
        assert_same_people(ours.poses, theirs.poses)


def test_fields_of_the_truth_are_read_as_written(tmp_path: Path) -> None:
    heads = np.array([[1, 2, 31, 42], [5, 5, 9, 9]], np.float32)
    region = np.array([[0, 0], [50, 0], [0, 50.5]], np.float32)
    poses = two_people().as_skeleton(POSETRACK_15)
    labelled = PoseFrame("a.jpg", poses, head_boxes=heads, ignored=(region, region + 1))
    frames = (labelled, PoseFrame("b.jpg", poses.select(slice(0)), labelled=False))
    document = posetrack_document(PoseSequence("video", POSETRACK_15, frames))
    first, second = read_posetrack(save(tmp_path / "gt.json", document)).frames

    np.testing.assert_array_equal(first.head_boxes, heads)
    np.testing.assert_array_equal(first.ignored, (region, region + 1))
    assert (first.labelled, second.labelled) == (True, False)


def test_the_written_format_is_that_of_2018() -> None:
    tracked = replace(two_people(), ids=np.array([7, 9]))
    document = written(PoseSequence("video", COCO_17, (PoseFrame("images/a.jpg", tracked, number=10000),)))
    assert document["images"] == [
        {"id": 10000, "frame_id": 10000, "file_name": "images/a.jpg", "nframes": 1, "is_labeled": True}
    ]
    assert document["categories"][0]["keypoints"] == list(KEYPOINTS_2018)
    assert KEYPOINTS_2018[:5] == ("nose", "head_bottom", "head_top", "left_ear", "right_ear")
    first = document["annotations"][0]
    assert (first["image_id"], first["track_id"], first["score"]) == (10000, 7, 0.988)
    assert first["keypoints"][3:6] == pytest.approx([55.13, 27.5, 1], abs=0.01)  # the middle of the shoulders
    assert first["keypoints"][6:9] == [0, 0, 0]  # COCO has no top of the head
    assert (len(first["keypoints"]), len(first["scores"])) == (51, 17)


def test_a_listed_keypoint_has_a_score(tmp_path: Path) -> None:
    document = written(PoseSequence("video", COCO_17, (PoseFrame("a.jpg", two_people()),)))
    document["annotations"][0]["scores"] = [0] * 17
    poses = read_posetrack(save(tmp_path / "pred.json", document)).frames[0].poses
    assert poses.keypoint_scores[0, POSETRACK_15.keypoints.index("left_knee")] == FAINT
    assert poses.keypoint_scores[0, POSETRACK_15.keypoints.index("head_top")] == 0


@needs_shared
@pytest.mark.parametrize("kind", ["gt", "pred"])
@pytest.mark.parametrize("name", ["clean", "quirk"])
def test_both_formats_are_read_alike(name: str, kind: str) -> None:
    files = sorted((_GOLDENS / f"{name}_pt17/{kind}").iterdir())
    assert files
    for file in files:
        old, new = read_posetrack(file), read_posetrack(_GOLDENS / f"{name}_pt18/{kind}" / file.name)
        for theirs, ours in zip(old.frames, new.frames, strict=True):
            assert (theirs.name, theirs.labelled) == (ours.name, ours.labelled)
            assert (theirs.head_boxes is None) == (ours.head_boxes is None)
            if theirs.head_boxes is not None and ours.head_boxes is not None:
                assert np.abs(theirs.head_boxes - ours.head_boxes).max() < 1e-4
            np.testing.assert_array_equal(theirs.ignored, ours.ignored)
            assert_same_people(theirs.poses, ours.poses)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"annotations": []}, r"gt\.json: lacks 'images'"),
        ({"images": [{"id": 1}], "annotations": []}, r"gt\.json: images\[0\] lacks 'file_name'"),
        ({"images": [], "annotations": [{"image_id": 5}]}, r"annotations name image_id 5, but images has none"),
        (
            {
                "images": [{"id": 5, "file_name": "a"}],
                "annotations": [{"image_id": 5, "track_id": 1, "keypoints": [1, 2, 3]}],
            },
            r"annotations\[0\]\.keypoints must be a list of 17 x 3 numbers, not a list of 3",
        ),
        (
            {"images": [], "annotations": [], "categories": [{"keypoints": ["nose"]}]},
            r"categories\[0\]\.keypoints lacks right_ankle, .*; PoseTrack's keypoints are nose head_bottom",
        ),
        ({"annolist": [{"image": []}]}, r"annolist\[0\]\.image must be a list of one, not of 0"),
        (
            {
                "annolist": [
                    {
                        "image": [{"name": "a"}],
                        "annorect": [{"annopoints": [{"point": [{"id": [15], "x": [1], "y": [2]}]}]}],
                    }
                ]
            },
            r"annolist\[0\]\.annorect\[0\]\.annopoints\[0\] has joints \[15\.0\]; PoseTrack's are 0 to 14",
        ),
    ],
)
def test_errors_are_reported(tmp_path: Path, document: object, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        read_posetrack(save(tmp_path / "gt.json", document))
