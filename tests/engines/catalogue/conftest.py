"""A user's catalogue file, and an environment without settings."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSEWIRE_CATALOGUE", "POSEWIRE_MODELS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A catalogue file of the user's in a folder with one model file."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "a.onnx").write_bytes(b"a")
    return folder / "own.toml"
