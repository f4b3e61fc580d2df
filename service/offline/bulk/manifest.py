"""The manifest of a folder of results, which prevents mixing the results of different batches."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engines.catalogue import Catalogue, Model
from engines.files import published, read_small, shown
from engines.runtimes import Runtime
from service import __version__
from service.config import Settings
from service.offline.bulk.errors import BulkError
from service.offline.bulk.listing import Listing
from service.offline.bulk.shards import Style

GROUP = 16
"""Images or frames that pass the networks in lockstep: enough to fill every batch, few enough for memory."""
_NAME = "manifest.json"
_NETWORKS = "networks.json"
_SETTINGS = ("backend", "precision", "crops", "max_body_mb", "max_pixels_m")
_FILES = "source sha256"
_LONGEST_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """Options that the results depend on. shard: images per shard. settings: the relevant settings of the server."""

    style: Style = "json"
    min_score: float = 0.3
    max_people: int = 50
    shard: int = 64
    settings: Mapping[str, object] = field(default_factory=dict)

    @staticmethod
    def settings_of(settings: Settings) -> dict[str, object]:
        """Return the settings that the results depend on."""
        return {name: getattr(settings, name) for name in _SETTINGS}


def manifest(listing: Listing, catalogue: Catalogue, model: str, options: BulkOptions) -> dict[str, Any]:
    """Everything that the results depend on, as plain JSON."""
    videos = sum(entry.video for entry in listing.entries)
    source = {
        "kind": listing.kind,
        "images": len(listing.entries) - videos,
        "videos": videos,
        "sha256": listing.sha256,
    }
    parts = {part.name: _sha256(part) for part in catalogue.parts(model)}
    return {
        "posewire": __version__,
        "source": source,
        "model": {"name": model, "sha256": parts},
        "options": {
            "format": options.style,
            "min-score": options.min_score,
            "max-people": options.max_people,
            "shard": options.shard,
            "group": GROUP,
        },
        "settings": dict(options.settings),
    }


@contextmanager
def claimed(folder: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Create or reopen the folder of results of a batch, and lock it for this process.

    Raises BulkError if the folder belongs to another batch, has other files, or is in use.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = folder / _NAME
        if not there.exists() and any(path.name != ".lock" for path in folder.iterdir()):
            raise BulkError(f"{shown(folder)} has files in it that are no results of posewire batch; name a new folder")
        with (folder / ".lock").open("a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BulkError(f"{shown(folder)} is in use: another posewire batch works on it") from error
            if there.exists():
                _compare(folder, _read(there), about)
            else:
                with published(there) as part:
                    part.write_text(json.dumps(about, indent=2) + "\n", "utf-8")
            for name in ("parts", "videos"):
                (folder / name).mkdir(exist_ok=True)
            yield
    except OSError as error:
        raise BulkError(cannot_write(error, folder)) from error


def cannot_write(error: OSError, folder: Path) -> str:
    """The message for the user if the folder of results cannot be written."""
    return f"cannot write {shown(error.filename or folder)}: {error.strerror or 'the file system refuses'}"


def agree(folder: Path, networks: Mapping[str, Runtime]) -> None:
    """Ensure that all workers run the networks in the same way as the first worker did. The setting "auto" can have
    different meanings on different machines, and before and after a plan is built.

    Raises BulkError if this worker would run them differently.
    """
    said = {name: [type(one).__name__, one.spec.precision, one.spec.max_batch] for name, one in networks.items()}
    part = folder / f"{_NETWORKS}.{os.getpid()}.part"
    part.write_text(json.dumps(said) + "\n", "utf-8")
    try:
        os.link(part, folder / _NETWORKS)  # unlike a rename, this fails if another worker was faster
    except FileExistsError:
        before = _read(folder / _NETWORKS)
        if before != said:
            raise BulkError(
                f"{shown(folder)} has results of networks run as {before}, which here would run as {said}; "
                "set backend and precision, or name a new folder"
            ) from None
    finally:
        part.unlink()


def _read(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file of an earlier run. Raises BulkError if it is damaged, and OSError."""
    try:
        found = json.loads(read_small(path, _LONGEST_FILE))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BulkError(f"{shown(path)} is damaged; name a new folder")
    return found


def _compare(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    old, new = dict(_flat(before)), dict(_flat(now))
    for key in old | new:
        if old.get(key) != new.get(key):
            what = f"{key} was {old.get(key)}, now it is {new.get(key)}"
            if key == _FILES:
                what = "files of the source have another name, size or time now"
            raise BulkError(
                f"{shown(folder)} holds results of another batch ({what}); name a new folder, or run it as before"
            )


def _flat(table: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{inside}{key} ")
        else:
            yield inside + key, value


def _sha256(model: Model) -> str:
    """A digest of a fetched model's files and of its options in the catalogue. Raises BulkError."""
    model.fetch()
    options = sorted((k, repr(v)) for k, v in model.options.items())
    said = (model.family, model.keypoint_set, model.input, options, *([model.convert] if model.convert else []))
    digest = hashlib.sha256(repr(said).encode())
    for path in model.paths:
        try:
            with path.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        except OSError as error:
            raise BulkError(f"model {model.name}: cannot read {shown(error.filename)}: {error.strerror}") from error
    return digest.hexdigest()
