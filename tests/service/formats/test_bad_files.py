"""Errors in files are reported in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.skeletons import COCO_17, POSETRACK_15
from service.formats.coco import coco_annotations, coco_results, read_coco, read_coco_results, read_coco_truth
from service.formats.openpose import openpose_document, read_openpose
from service.formats.parsing import FormatError
from service.formats.posetrack import posetrack_document, read_posetrack
from service.formats.posewire import people_list, read_posewire
from service.formats.sequence import PoseFrame, PoseSequence
from tests.service.formats.people import two_people
from tests.service.formats.sequences import save

Reader = Callable[[Path], object]

_HEADS = np.array([[0, 0, 9, 9]] * 2, np.float32)
_POINTS = [{"id": [n], "x": [n], "y": [1.5], "score": [0.5]} for n in range(2)]
_ANNOLIST = {
    "annolist": [
        {
            "image": [{"name": "a.jpg"}],
            "imgnum": [1],
            "is_labeled": [1],
            "annorect": [
                {"x1": [1], "y1": [1], "x2": [9], "y2": [9], "track_id": [3], "annopoints": [{"point": _POINTS}]}
            ],
            "ignore_regions": [{"point": _POINTS}],
        }
    ]
}


def _plain(document: object) -> Any:
    return orjson.loads(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


def _video() -> PoseSequence:
    region = np.array([[0, 0], [5, 0], [0, 5]], np.float32)
    frame = PoseFrame("a.jpg", two_people(), 5, width=64, height=48, head_boxes=_HEADS, ignored=(region,))
    return PoseSequence("video", COCO_17, (frame,))


_FRAME = {"image": "a", "width": 64, "height": 48, "skeleton": "coco-17", "people": people_list(two_people())}
_FILES: dict[str, tuple[Reader, Any]] = {
    "coco annotations": (read_coco, _plain(coco_annotations(_video()))),
    "coco truth": (read_coco_truth, _plain(coco_annotations(_video()))),
    "coco results": (read_coco_results, _plain(coco_results(two_people(), image_id=5))),
    "coco results, as a sequence": (read_coco, _plain(coco_results(two_people(), image_id=5))),
    "openpose": (read_openpose, _plain(openpose_document(two_people()))),
    "posetrack 2018": (read_posetrack, _plain(posetrack_document(_video()))),
    "posetrack 2017": (read_posetrack, _ANNOLIST),
    "posewire": (read_posewire, _plain(_FRAME)),
}


def put_somewhere(document: Any, value: object, data: st.DataObject) -> None:
    """Replace a value at any depth."""
    while True:
        keys = list(document) if isinstance(document, dict) else range(len(document))
        key = data.draw(st.sampled_from(keys))
        if not document[key] or not isinstance(document[key], (dict, list)) or data.draw(st.booleans()):
            document[key] = value
            return
        document = document[key]


@pytest.mark.parametrize("name", _FILES)
@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    put=st.sampled_from([None, True, -1, 2**63, 1e39, 0.5, "text", [], [[]], [1], {}, {"id": 1}, [{}], [None]]),
)
def test_a_wrong_value_is_read_or_reported(name: str, data: st.DataObject, put: object) -> None:
    read, document = _FILES[name]
    document = copy.deepcopy(document)
    put_somewhere(document, put, data)
    with TemporaryDirectory() as folder:
        path = save(Path(folder) / "poses.json", document)
        with suppress(FormatError):
            read(path)


@pytest.mark.parametrize("name", _FILES)
def test_a_file_that_is_not_json_is_reported(name: str, tmp_path: Path) -> None:
    read, document = _FILES[name]
    path = tmp_path / "poses.json"
    path.write_bytes(orjson.dumps(document)[:-20])
    with pytest.raises(FormatError, match=r"poses\.json: is not JSON: "):
        read(path)
    with pytest.raises(FormatError, match=r"nowhere\.json: cannot be read: No such file or directory"):
        read(tmp_path / "nowhere.json")


def test_unchanged_files_are_read(tmp_path: Path) -> None:
    for name, (read, document) in _FILES.items():
        assert read(save(tmp_path / "poses.json", document)), name
    assert read_posetrack(save(tmp_path / "old.json", _ANNOLIST)).skeleton == POSETRACK_15
