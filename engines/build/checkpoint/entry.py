"""Catalogue files that are written by a program: one model each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from engines.inputs import PixelInput

FIRST_WORDS = "# Built by `posewire build"
"""What such a file begins with; one that does not is somebody's own and is left alone."""


def is_users_own(path: Path) -> bool:
    """Whether there is a catalogue file at `path` that no program wrote."""
    return path.exists() and not path.read_bytes().startswith(FIRST_WORDS.encode())


def entry_text(name: str, remark: str, keys: Mapping[str, object], pixels: PixelInput) -> str:
    """The file of model `name`. keys: see `engines.catalogue.schema`, without `input`.

    None and empty values are left out.
    """
    side = {"width": pixels.width, "height": pixels.height, "order": pixels.order}
    table: dict[str, object] = {**keys, "input": side | {"mean": pixels.mean, "std": pixels.std, "pad": pixels.pad}}
    lines = [f"{key} = {_toml(value)}" for key, value in table.items() if value not in (None, "", {})]
    return "\n".join([f"{FIRST_WORDS} {remark}", f"[models.{json.dumps(name)}]", *lines]) + "\n"


def _toml(value: object) -> str:
    """A TOML value. Strings in quotes, numbers and truth are written as JSON writes them."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # TOML has no pairs of surrogates
