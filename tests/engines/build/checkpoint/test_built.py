"""The result of a build is found again for the same request only, and its catalogue file can be read."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from engines.build.checkpoint.built import (
    FIRST_WORDS,
    BuildRequest,
    entry_text,
    is_built,
    is_users_own,
    note_built,
)
from engines.catalogue import load
from engines.files import shown
from engines.inputs import PixelInput


@pytest.fixture
def built(tmp_path: Path) -> BuildRequest:
    """A request that was built into the test's folder."""
    (tmp_path / "weights_256x192.pth").write_bytes(b"weights")
    built = BuildRequest("simple-baseline-r50", tmp_path / "weights_256x192.pth", "mine", detector="rtmdet-nano")
    built.graphs(tmp_path)[0].write_bytes(b"a graph")
    built.catalogue(tmp_path).write_text(f"{FIRST_WORDS} simple-baseline-r50`.", "utf-8")
    note_built(built, tmp_path)
    return built


def test_a_built_request_is_found_again(tmp_path: Path, built: BuildRequest) -> None:
    assert is_built(built, tmp_path)
    os.utime(built.checkpoint, (0, 0))
    assert is_built(built, tmp_path), "a checkpoint is identified by its content"
    built.catalogue(tmp_path).write_text(f"{FIRST_WORDS} simple-baseline-r50`, licence MIT.", "utf-8")
    assert is_built(built, tmp_path), "users may edit its catalogue file"


@pytest.mark.parametrize(
    "change",
    [{"architecture": "hrnet-w32"}, {"name": "other"}, {"size": (96, 64)}, {"skeleton": "mpii-16"}, {"detector": None}],
    ids=lambda change: next(iter(change)),
)
def test_another_request_is_another_model(tmp_path: Path, built: BuildRequest, change: dict[str, object]) -> None:
    assert not is_built(replace(built, **change), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["weights_256x192.pth", "mine.onnx", "mine.toml"])
def test_a_changed_file_is_built_again(tmp_path: Path, built: BuildRequest, file: str) -> None:
    (tmp_path / file).write_bytes(b"something else")
    assert not is_built(built, tmp_path)


@pytest.mark.parametrize("file", ["mine.onnx", "mine.onnx.lock.json", "mine.toml"])
def test_a_missing_file_is_built_again(tmp_path: Path, built: BuildRequest, file: str) -> None:
    (tmp_path / file).unlink()
    assert not is_built(built, tmp_path)


@pytest.mark.parametrize("name", ["köln 😀.pth", "\udcff.pth", 'a"\\b\n.pth', "\x7f.pth"])
def test_a_title_of_any_characters_is_read_back(tmp_path: Path, name: str) -> None:
    keys = {
        "title": shown(name),
        "role": "bottom-up",
        "family": "heatmap",
        "skeleton": "coco-17",
        "source": {"kind": "file", "path": "mine.onnx"},
    }
    (tmp_path / "mine.toml").write_text(
        entry_text("mine", f"{FIRST_WORDS} a test`.", keys, PixelInput(64, 64)), "utf-8"
    )
    assert load([tmp_path / "mine.toml"], tmp_path)["mine"].title == shown(name)
    assert not is_users_own(tmp_path / "mine.toml")


def test_a_file_that_is_not_utf_8_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    assert is_users_own(tmp_path / "mine.toml")
    assert not is_users_own(tmp_path / "none.toml")
