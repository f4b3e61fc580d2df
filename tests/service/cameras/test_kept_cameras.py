"""The cameras that the API has added, in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.cameras.entry import CameraEntry
from service.cameras.kept_cameras import KeptCameras

DOCUMENT = {
    "source": "rtsp://joe:hush@10.0.0.5/live",
    "fps": 4,
    "detect_every": "auto",
    "smoothing": True,
    "zones": [{"name": "bed", "polygon": [[0, 0], [1, 0], [1, 1]]}],
}


def entry(**others: object) -> CameraEntry:
    return CameraEntry.model_validate({**DOCUMENT, **others})


def test_cameras_and_pauses_are_read_as_they_were_saved(tmp_path: Path) -> None:
    kept = KeptCameras(tmp_path / "cameras" / "cameras.json")
    assert kept.load() == ({}, frozenset())
    entries = {"door": entry(), "hall": entry(detect_every=0, blur="faces")}
    kept.save(entries, ["hall", "of-the-file"])
    assert kept.load() == (entries, frozenset({"hall", "of-the-file"}))
    [file] = (tmp_path / "cameras").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_damaged_is_left_out_and_told_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "cameras.json"
    kept = KeptCameras(file)
    kept.save({"door": entry()}, [])
    good = file.read_text("utf-8")
    file.write_text(good.replace('"door": {', '"A": {"source": "rtsp://joe:hush@x/"}, "b": {"source": 3}, "door": {'))
    assert list(kept.load()[0]) == ["door"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    for damaged in ("", "{", "[]", "3", '{"cameras": [1]}', '{"cameras": {"a": null}, "paused": 7}', "\x00" * 100):
        file.write_text(damaged, "utf-8")
        assert kept.load() == ({}, frozenset())
    assert "hush" not in caplog.text


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "cameras.json"
    kept = KeptCameras(file)
    kept.save({"door": entry()}, [])
    os.mkdir(file.with_suffix(".json.part"))  # noqa: PTH102 - what cannot be opened for writing
    with pytest.raises(OSError, match="directory"):
        kept.save({}, [])
    assert list(kept.load()[0]) == ["door"]
