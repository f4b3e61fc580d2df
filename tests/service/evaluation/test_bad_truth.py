"""`posewire eval coco`: for any file, the metrics are right or one line reports an error."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from service.cli.main import main
from tests.shared import SHARED, needs_shared

Document = dict[str, Any]

PERSON = {
    "id": 1,
    "image_id": 1,
    "category_id": 1,
    "iscrowd": 0,
    "keypoints": [v for n in range(17) for v in (10 + n, 20 + n, 2)],
    "num_keypoints": 17,
    "area": 900,
    "bbox": [5, 5, 40, 40],
}
TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg"}],
    "annotations": [PERSON],
    "categories": [{"id": 1, "name": "person"}],
}
RESULT = {"image_id": 1, "category_id": 1, "keypoints": PERSON["keypoints"], "score": 0.9}


def evaluate(folder: Path, truth: object, results: object) -> tuple[int, str]:
    """Return the exit code and the output."""
    for name, document in (("gt.json", truth), ("pred.json", results)):
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        (folder / name).write_bytes(content)
    done = CliRunner().invoke(main, ["eval", "coco", str(folder / "gt.json"), str(folder / "pred.json")])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output.replace(f"{folder}/", "")


def changed(document: Any, place: tuple[str | int, ...], value: object) -> Any:
    document = copy.deepcopy(document)
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return document


def truth(*place: str | int) -> Callable[[object], tuple[object, object]]:
    return lambda value: (changed(TRUTH, place, value), [RESULT])


def result(*place: str | int) -> Callable[[object], tuple[object, object]]:
    return lambda value: (TRUTH, changed([RESULT], place, value))


PERSON_AT = ("annotations", 0)


@pytest.mark.parametrize(
    ("put", "value", "says"),
    [
        (truth(*PERSON_AT, "iscrowd"), None, "gt.json: annotations[0].iscrowd must be 0 or 1, not null"),
        (truth(*PERSON_AT, "iscrowd"), 2, "annotations[0].iscrowd must be 0 or 1, not 2"),
        (truth(*PERSON_AT, "iscrowd"), "0", "annotations[0].iscrowd must be 0 or 1, not a text"),
        (truth(*PERSON_AT, "iscrowd"), 0.0, "annotations[0].iscrowd must be 0 or 1, not 0.0"),
        (truth(*PERSON_AT, "num_keypoints"), None, "annotations[0].num_keypoints must be a whole number, not null"),
        (truth(*PERSON_AT, "num_keypoints"), 18, "annotations[0].num_keypoints must be 0 to 17, not 18"),
        (truth(*PERSON_AT, "area"), None, "annotations[0] has null as 'area'"),
        (truth(*PERSON_AT, "area"), -1, "annotations[0].area must not be below 0, as -1 is"),
        (truth(*PERSON_AT, "area"), True, "annotations[0].area must be a number, not true or false"),
        (truth(*PERSON_AT, "area"), 1e39, "annotations[0].area must be finite numbers"),
        (truth(*PERSON_AT, "area"), 10**400, "gt.json: "),
        (truth(*PERSON_AT, "bbox"), [0, 0, 1], "annotations[0].bbox must be a list of 4 numbers, not a list of 3"),
        (truth(*PERSON_AT, "bbox"), [0, 0, -1, 1], "annotations[0].bbox must have a width and height of 0 or more"),
        (truth(*PERSON_AT, "keypoints"), [1] * 50, "keypoints must be a list of 51 numbers, not a list of 50"),
        (truth(*PERSON_AT, "keypoints", 3), True, "keypoints must be a list of 51 numbers"),
        (truth(*PERSON_AT, "keypoints", 3), None, "keypoints must be a list of 51 numbers"),
        (truth(*PERSON_AT, "keypoints", 3), float("nan"), "has NaN, which is no number of JSON"),
        (truth(*PERSON_AT, "keypoints", 3), float("-inf"), "has Infinity, which is no number of JSON"),
        (truth(*PERSON_AT, "image_id"), 2, "annotations[0].image_id is none of the images: 2"),
        (truth(*PERSON_AT, "image_id"), "1", "annotations[0].image_id must be a whole number, not a text"),
        (truth(*PERSON_AT, "category_id"), 2, "annotations[0].category_id is none of the categories: 2"),
        (truth("images"), [{"id": 1}, {"id": 1}], "images[1].id is 1, as that of another image"),
        (truth("categories"), [], "categories must name a category of people, and is empty"),
        (truth("annotations"), {}, "annotations must be a list, not an object"),
        (truth("annotations"), [None], "annotations[0] must be an object, not null"),
        (result(0, "score"), None, "pred.json: [0] has null as 'score'"),
        (result(0, "score"), "0.9", "[0].score must be a number, not a text"),
        (result(0, "category_id"), 0, "pred.json: the truth has no category 0, which the results name"),
        (result(0, "image_id"), 2**64, "[0].image_id must be a whole number"),
        (result(0, "image_id"), 7, "pred.json: the truth has no image 7, which the results name"),
        (result(0, "keypoints"), [1, 2, 3], "[0].keypoints must be a list of 51 numbers, not a list of 3"),
    ],
)
def test_a_wrong_value_is_reported_with_its_location(
    tmp_path: Path, put: Callable[[object], tuple[object, object]], value: object, says: str
) -> None:
    code, said = evaluate(tmp_path, *put(value))
    assert code == 1
    assert said.startswith("Error: ")
    assert says in said
    assert len(said.splitlines()) == 1


WHOLE = json.dumps([RESULT]).encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is not JSON: it is empty"),
        (WHOLE[:-9], "is not JSON: it breaks off at line 1, column "),
        (b"[1, 2,]", "is not JSON: something else stands at line 1, column 6: ,]"),
        (b'["\xff"]', "is not JSON: it is not UTF-8 from byte 2 on"),
        (gzip.compress(WHOLE), "is not JSON: it is compressed by gzip; unpack it first"),
        (b"PK\x03\x04", "is not JSON: it is a zip archive; unpack it first"),
        (b"MATLAB 5.0 MAT-file", "is not JSON: it is a file of MATLAB"),
        (b"[" * 100_000, "is not JSON: "),
        (b"[" * 1000 + b"]" * 1000, "[0] must be an object, not a list of 1"),
        (b"{}", "is an object; COCO's results are a list of people"),
        (b"\xff\xfe\x00", "is not JSON: it has the mark of UTF-16, but is not that"),
    ],
)
def test_a_file_that_is_not_json_is_reported(tmp_path: Path, content: bytes, says: str) -> None:
    code, said = evaluate(tmp_path, TRUTH, content)
    assert (code, said.startswith("Error: pred.json: ")) == (1, True)
    assert says in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, encoding: str) -> None:
    code, said = evaluate(tmp_path, TRUTH, WHOLE.decode().encode(encoding))
    assert (code, said.splitlines()[1].split()[0]) == (0, "1.000")


def test_iscrowd_may_be_a_bool(tmp_path: Path) -> None:
    code, said = evaluate(tmp_path, changed(TRUTH, (*PERSON_AT, "iscrowd"), False), [RESULT])
    assert (code, said.splitlines()[1].split()[0]) == (0, "1.000")


@pytest.mark.parametrize("empty", ["annotations", "images"])
def test_an_empty_truth_is_no_error(tmp_path: Path, empty: str) -> None:
    nothing = TRUTH | {"annotations": [], empty: []}
    code, said = evaluate(tmp_path, nothing, [])
    assert (code, said.splitlines()[1].split()[0]) == (0, "-1.000")


def test_results_have_the_skeleton_of_the_truth(tmp_path: Path) -> None:
    from engines.skeletons import MPII_16

    points = PERSON["keypoints"][:48]  # type: ignore[index]
    labelled = changed(TRUTH, ("categories", 0, "keypoints"), MPII_16.keypoints)
    labelled = changed(changed(labelled, (*PERSON_AT, "keypoints"), points), (*PERSON_AT, "num_keypoints"), 16)
    code, said = evaluate(tmp_path, labelled, [RESULT | {"keypoints": points}])
    assert (code, said.splitlines()[1].split()[0]) == (0, "1.000")


@needs_shared
def test_a_known_bad_file_is_a_clear_error() -> None:
    case = SHARED / "cases/eval"
    if not case.is_dir():
        pytest.skip("these cases are not in this ../shared")
    done = CliRunner().invoke(main, ["eval", "coco", f"{case}/coco_iscrowd_null.json", f"{case}/coco_results.json"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith("coco_iscrowd_null.json: annotations[0].iscrowd must be 0 or 1, not null\n")
