"""Selects the user's images that a network is calibrated and judged on, and computes their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from engines.catalogue import Model
from engines.catalogue.fetch.records import sha256

Item = TypeVar("Item")

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_MOST_IMAGES = 256


class CalibrationError(ValueError):
    """No crops can be taken from the folder; the message says why."""


def images_in(folder: Path) -> Sequence[Path]:
    """The images in `folder` that are used, in order of names. Raises CalibrationError if there are none."""
    if not folder.is_dir():
        raise CalibrationError(f"{folder} is not a folder of images")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith("._") and path.is_file()
    )
    if not paths:
        raise CalibrationError(f"there are no images in {folder} ({', '.join(sorted(_SUFFIXES))})")
    return spread(paths, _MOST_IMAGES)


def images_digest(folder: Path, model: Model, catalogue: Mapping[str, Model]) -> str:
    """A digest of the images in `folder` and of the model's detector. Equal digests mean equal crops.

    Raises FetchError, and CalibrationError if there are no images.
    """
    files = [*images_in(folder)]
    if model.role == "estimator" and model.detector is not None:
        files.append(catalogue[model.detector].fetch())
    return hashlib.sha256("".join(sorted(map(sha256, files))).encode()).hexdigest()


def spread(items: Sequence[Item], limit: int) -> Sequence[Item]:
    """At most `limit` of the items, evenly spread."""
    if len(items) <= limit:
        return items
    return [items[n * len(items) // limit] for n in range(limit)]
