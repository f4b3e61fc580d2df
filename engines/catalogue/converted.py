"""Converted models: made from fetched files when they are first needed, and cached like these.

`<cache>/converted/<name>-<key>/` has the graph, model.pb, its record (see fetch.records) and a lock. The key stands for
all that a conversion depends on, so that a graph never goes stale: if the files, the cut or the converter change, it
becomes another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from engines.catalogue.fetch import records
from engines.catalogue.fetch.sources import DownloadProgress, FetchError, File
from engines.catalogue.fetch.store import cache_in_use
from engines.catalogue.tfjs import ConversionError, Cut, convert
from engines.files import published, shown
from engines.locks import locked

VERSION = 1
"""The converter's version, to be raised whenever it writes something else than before."""


def converted(cache: Path, topology: Path, cut: Cut | None, progress: DownloadProgress | None = None) -> Path:
    """The path of the graph converted from the tfjs model at `topology`, which is converted if it is not cached.

    Raises FetchError if it cannot be converted, or the cache cannot be written.
    """
    try:
        key = _key(topology, cut)
    except OSError as error:
        raise FetchError(f"{shown(topology)} cannot be converted: {_reason(error)}") from error
    folder, file = cache / "converted" / f"{topology.stem}-{key[:12]}", File("model.pb")
    path, origin = folder / file.path, f"{topology.name}, converted {key}"
    if records.is_verified(path, file, origin):
        return path
    with cache_in_use(cache):
        folder.mkdir(parents=True, exist_ok=True)
        waiting = f"waiting for another process that converts {topology.name}"
        with locked(folder / ".lock", partial(progress, 0, None, waiting) if progress else None):
            if not records.is_verified(path, file, origin):  # else another process converted it while this one waited
                with published(path, unique=False) as part:
                    part.write_bytes(_graph(topology, cut))
                    records.write(path, part, origin, records.sha256(part))
    return path


def _graph(topology: Path, cut: Cut | None) -> bytes:
    try:
        return convert(topology, cut)
    except ConversionError as error:
        hint = "see `files` and `convert` in the catalogue"
        raise FetchError(f"{shown(topology)} cannot be converted: {error}", hint) from error
    except OSError as error:
        raise FetchError(f"{shown(topology)} cannot be converted: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    return f"{shown(error.filename)}: {error.strerror}" if error.filename else str(error)


def _key(topology: Path, cut: Cut | None) -> str:
    """A digest of all that a conversion depends on. Raises OSError if a file cannot be read."""
    digests = [records.vouched(path) or records.sha256(path) for path in (topology, *weight_files(topology))]
    about = None if cut is None else [cut.kind, cut.input, cut.shape, list(cut.outputs.items())]
    return hashlib.sha256(json.dumps([VERSION, about, digests]).encode()).hexdigest()


def weight_files(topology: Path) -> Iterator[Path]:
    """The files of weights that the model.json at `topology` names and that exist; none of a file that is no model.

    Raises OSError if it cannot be read.
    """
    try:
        names = [str(path) for group in json.loads(topology.read_bytes())["weightsManifest"] for path in group["paths"]]
    except (ValueError, LookupError, TypeError, RecursionError):
        return  # the converter says what is wrong with it
    for name in names:
        path = topology.parent / Path(name).name
        if path.is_file():
            yield path
