"""CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.formats.table import csv_table
from tests.service.formats.people import two_people


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


def test_identities_have_their_column() -> None:
    lines = csv_table([("a.jpg", replace(two_people(), ids=np.array([7, 9])))]).splitlines()
    assert lines[1].startswith("a.jpg,0,7,")
    assert lines[18].startswith("a.jpg,1,9,")


def test_names_with_commas_and_quotes_come_back_as_they_were() -> None:
    name = 'holiday, "2026".jpg'
    rows = list(csv.DictReader(io.StringIO(csv_table([(name, two_people())]))))
    assert {row["image"] for row in rows} == {name}


def test_nobody_has_no_rows() -> None:
    assert csv_table([("a.jpg", Poses.empty(COCO_17))]).count("\n") == 1
