"""What a checkpoint was built into is found again for the same order, and for no other."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from engines.build.checkpoint.built import Order, is_built, note_built
from engines.build.checkpoint.entry import FIRST_WORDS


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """One that was built into the folder of the test."""
    (tmp_path / "weights_256x192.pth").write_bytes(b"weights")
    order = Order("simple-baseline-r50", tmp_path / "weights_256x192.pth", "mine", detector="rtmdet-nano")
    order.graph(tmp_path).write_bytes(b"a graph")
    order.catalogue(tmp_path).write_text(f"{FIRST_WORDS} simple-baseline-r50`.")
    note_built(order, tmp_path)
    return order


def test_the_same_order_finds_what_was_built(tmp_path: Path, order: Order) -> None:
    assert is_built(order, tmp_path)
    os.utime(order.checkpoint, (0, 0))
    assert is_built(order, tmp_path), "a checkpoint is told by its content"
    order.catalogue(tmp_path).write_text(f"{FIRST_WORDS} simple-baseline-r50`, licence MIT.")
    assert is_built(order, tmp_path), "its catalogue file is for users to complete"


@pytest.mark.parametrize(
    "change",
    [{"architecture": "hrnet-w32"}, {"name": "other"}, {"size": (96, 64)}, {"skeleton": "mpii-16"}, {"detector": None}],
    ids=lambda change: next(iter(change)),
)
def test_another_order_is_another_model(tmp_path: Path, order: Order, change: dict[str, object]) -> None:
    assert not is_built(replace(order, **change), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["weights_256x192.pth", "mine.onnx", "mine.toml"])
def test_what_has_changed_is_built_anew(tmp_path: Path, order: Order, file: str) -> None:
    (tmp_path / file).write_bytes(b"something else")
    assert not is_built(order, tmp_path)


@pytest.mark.parametrize("file", ["mine.onnx", "mine.onnx.lock.json", "mine.toml"])
def test_what_is_gone_is_built_anew(tmp_path: Path, order: Order, file: str) -> None:
    (tmp_path / file).unlink()
    assert not is_built(order, tmp_path)
