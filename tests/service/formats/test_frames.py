"""Writing the poses of a video."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.formats.frames import FramesFile
from tests.service.tracking.walkers import standing

ABOUT = {"video": "a.mp4", "skeleton": "coco-17"}


def write(path: Path) -> Path:
    with FramesFile(path, path.suffix, ABOUT) as file:
        file.write(0, 0.0, standing({7: (100.0, 200.0), 9: (50.25, 80.0)}))
        file.write(1, 1 / 30, Poses.empty(COCO_17))
        file.write(2, 2 / 30, standing({-1: (100.0, 200.0)}))
    return path


def test_json_is_one_object_with_one_line_per_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "poses.json")
    document = json.loads(path.read_text("utf-8"))
    assert {key: document[key] for key in ABOUT} == ABOUT
    assert [(f["frame"], f["time"], [p["id"] for p in f["people"]]) for f in document["frames"]] == [
        (0, 0.0, [7, 9]),
        (1, 0.033333, []),
        (2, 0.066667, [-1]),
    ]
    assert document["frames"][0]["people"][1]["box"] == [40.25, 40.0, 60.25, 80.0]
    assert len(path.read_text("utf-8").splitlines()) == 5


def test_ndjson_is_the_lines_of_the_json_and_each_can_be_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "poses.ndjson"
    with FramesFile(path, path.suffix, ABOUT) as file:
        file.write(0, 0.0, standing({7: (100.0, 200.0), 9: (50.25, 80.0)}))
        assert json.loads(path.read_text("utf-8"))["frame"] == 0
    lines = [json.loads(line) for line in write(path).read_text("utf-8").splitlines()]
    assert lines == json.loads(write(tmp_path / "poses.json").read_text("utf-8"))["frames"]


def test_csv_has_one_row_per_keypoint(tmp_path: Path) -> None:
    rows = list(csv.DictReader(write(tmp_path / "poses.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 3 * len(COCO_17)
    assert [(row["frame"], row["time"], row["person"], row["id"]) for row in rows[:: len(COCO_17)]] == [
        ("0", "0.000000", "0", "7"),
        ("0", "0.000000", "1", "9"),
        ("2", "0.066667", "0", "-1"),
    ]
    assert (rows[0]["keypoint"], rows[0]["x"], rows[0]["y"]) == ("nose", "100.00", "180.00")


def test_a_video_without_frames_is_a_valid_file(tmp_path: Path) -> None:
    with FramesFile(tmp_path / "a.json", ".json", {}):
        pass
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {"frames": []}


def test_an_interrupted_file_is_not_valid(tmp_path: Path) -> None:
    def break_off() -> None:
        with FramesFile(tmp_path / "a.json", ".json", ABOUT) as file:
            file.write(0, 0.0, standing({7: (100.0, 200.0)}))
            raise RuntimeError("power")

    with pytest.raises(RuntimeError, match="power"):
        break_off()
    with pytest.raises(json.JSONDecodeError):
        json.loads((tmp_path / "a.json").read_text("utf-8"))
