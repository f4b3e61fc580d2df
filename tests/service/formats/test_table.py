"""Writing and reading CSV."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.poses import Poses
from engines.skeletons import BLAZEPOSE_33, COCO_17
from service.formats.frames import FramesFile
from service.formats.parsing import FormatError
from service.formats.sequence import PoseSequence
from service.formats.table import csv_table, read_table
from tests.service.formats.people import two_people
from tests.service.formats.sequences import assert_same_people, few, sequences


def test_there_is_one_row_per_keypoint() -> None:
    lines = csv_table([("a.jpg", two_people()), ("b.jpg", two_people())]).splitlines()

    assert lines[:4] == [
        "image,person,id,score,keypoint,x,y,keypoint_score",
        "a.jpg,0,,0.988,nose,0.13,0.00,0.000",
        "a.jpg,0,,0.988,left_eye,10.13,5.00,0.062",
        "a.jpg,0,,0.988,right_eye,20.13,10.00,0.125",
    ]
    assert lines[18] == "a.jpg,1,,0.500,nose,100.13,0.00,0.500"
    assert lines[-1] == "b.jpg,1,,0.500,right_ankle,260.13,80.00,0.500"
    assert len(lines) == 1 + 2 * 2 * 17


def test_ids_have_their_column() -> None:
    lines = csv_table([("a.jpg", replace(two_people(), ids=np.array([7, 9])))]).splitlines()
    assert lines[1].startswith("a.jpg,0,7,")
    assert lines[18].startswith("a.jpg,1,9,")


def test_names_with_commas_and_quotes_are_quoted() -> None:
    name = 'holiday, "2026".jpg'
    rows = list(csv.DictReader(io.StringIO(csv_table([(name, two_people())]))))
    assert {row["image"] for row in rows} == {name}


def test_an_image_without_people_has_no_rows() -> None:
    assert csv_table([("a.jpg", Poses.empty(COCO_17))]).count("\n") == 1


@few
@given(sequences(BLAZEPOSE_33))
def test_images_with_people_are_read_as_written(written: PoseSequence) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "video.csv"
        path.write_text(csv_table((frame.name, frame.poses) for frame in written.frames), "utf-8")
        read = read_table(path)
    peopled = [frame for frame in written.frames if len(frame.poses)]
    for ours, theirs in zip(read.frames, peopled, strict=True):
        assert ours.name == theirs.name
        assert_same_people(ours.poses, theirs.poses)


def test_a_videos_frames_have_times(tmp_path: Path) -> None:
    path = tmp_path / "video.csv"
    with FramesFile(path, ".csv", {}) as file:
        file.write(12, 0.4, replace(two_people(), ids=np.array([7, -1])))
    (frame,) = read_table(path).frames
    assert (frame.name, frame.number, frame.timestamp) == ("12", 12, 0.4)
    assert frame.poses.ids is not None
    assert frame.poses.ids.tolist() == [7, -1]


@pytest.mark.parametrize(
    ("cut", "put", "says"),
    [
        ("image,person", "picture,person", "must start with the line image,person,id,score"),
        ("left_eye", "tail", "line 2: the keypoints of this person are those of none of the skeletons"),
        ("a.jpg,1,,0.500,nose,100.13,0.00,0.500\n", "", "line 19: person 1 must have the 17 keypoints of coco-17"),
        ("nose,100.13", "nose,far", "line 19: must have a number where it has 'far'"),
        ("nose,100.13", "nose,nan", "line 19: must have numbers below"),
        ("nose,100.13", "nose,1e39", "line 19: must have numbers below"),
    ],
)
def test_errors_are_reported(tmp_path: Path, cut: str, put: str, says: str) -> None:
    text = csv_table([("a.jpg", two_people())])
    path = tmp_path / "poses.csv"
    path.write_text(text.replace(cut, put, 1), "utf-8")
    with pytest.raises(FormatError, match=says) as refusal:
        read_table(path)
    assert str(refusal.value).startswith(str(path))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(["", ",", "\n", '"', "x", "-", "1e400", "\0", "é", "9" * 30]))
def test_a_wrong_character_is_read_or_reported(data: st.DataObject, slip: str) -> None:
    text = csv_table([("a.jpg", replace(two_people(), ids=np.array([7, 9])))])
    at = data.draw(st.integers(0, len(text) - 1))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "poses.csv"
        path.write_text(text[:at] + slip + text[at + 1 :], encoding="utf-8")
        with suppress(FormatError):
            read_table(path)


def test_a_file_that_is_not_text_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match=r"poses\.csv: cannot be read as CSV"):
        read_table(path)
    with pytest.raises(FormatError, match="No such file"):
        read_table(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(csv_table([("ö", two_people())]).encode(encoding))
    assert [frame.name for frame in read_table(tmp_path / "a.csv").frames] == ["ö"]


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (("a", "a"), "line 36: person '0' of 'a' was there before"),
        (("a", "b", "a"), "person '0' of 'a' was there before"),
    ],
)
def test_duplicate_rows_are_reported(tmp_path: Path, images: tuple[str, ...], says: str) -> None:
    (tmp_path / "a.csv").write_text(csv_table([(name, two_people()) for name in images]), "utf-8")
    with pytest.raises(FormatError, match=says):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (",nose,", ",nose,x,", "line 2: must have 8 cells"),
        (",nose,", ",", "line 2: must have 8 cells"),
        ("a,0,,", "a,0,1.5,", "must have a whole number where it has '1.5'"),
        ("a,0,,", "a,0,nan,", "must have numbers below"),
        ("nose", "no\0se", "."),
    ],
)
def test_wrong_cells_are_reported(tmp_path: Path, before: str, after: str, says: str) -> None:
    (tmp_path / "a.csv").write_text(csv_table([("a", two_people())]).replace(before, after), "utf-8")
    with pytest.raises(FormatError, match=says):
        read_table(tmp_path / "a.csv")
