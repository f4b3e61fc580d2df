"""Catalogue files that a program writes can be read, whatever a checkpoint is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.build.checkpoint.entry import entry_text, is_users_own
from engines.catalogue.models import load
from engines.files import shown
from engines.inputs import PixelInput


@pytest.mark.parametrize("name", ["köln 😀.pth", "\udcff.pth", 'a"\\b\n.pth', "\x7f.pth"])
def test_a_title_of_any_characters_is_read_back(tmp_path: Path, name: str) -> None:
    keys = {
        "title": shown(name),
        "role": "bottom-up",
        "family": "heatmap",
        "skeleton": "coco-17",
        "source": {"kind": "file", "path": "mine.onnx"},
    }
    (tmp_path / "mine.toml").write_text(entry_text("mine", "a test`.", keys, PixelInput(64, 64)), "utf-8")
    assert load([tmp_path / "mine.toml"], tmp_path)["mine"].title == shown(name)
    assert not is_users_own(tmp_path / "mine.toml")


def test_a_file_that_is_not_utf_8_is_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    assert is_users_own(tmp_path / "mine.toml")
    assert not is_users_own(tmp_path / "none.toml")
