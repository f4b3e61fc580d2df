"""The real data for tests, beside the repository, and the mark that skips tests without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("POSEWIRE_SHARED", Path(__file__).resolve().parents[2] / "shared"))

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs the real data in ../shared, which is not part of the project"
)


def weights_catalogue(folder: Path) -> Path:
    """A catalogue file in `folder` that describes ../shared/data/weights."""
    template = Path(__file__).with_name("weights.toml").read_text("utf-8")
    path = folder / "weights.toml"
    path.write_text(template.replace('"WEIGHTS"', f'"{SHARED / "data/weights"}"'), "utf-8")
    return path
