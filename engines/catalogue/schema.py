"""Catalogue files: their TOML tables, validated and turned into Models.

defaults = ["NAME", ...]              # best first; optional

[models.NAME]
title = "..."                         # default: NAME
role = "estimator"                    # or detector, one-stage, bottom-up
family = "..."                        # the code that prepares its input and decodes its output
skeleton = "coco-17"                  # not for detectors
detector = "NAME"                     # for estimators; without one they take whole frames
licence = "Apache-2.0"                # default: "unknown"
commercial = true                     # whether the licence allows commercial use; default: false
publisher = "..."                     # optional
bf16 = true                           # whether precision "auto" may compute it in bf16; default: true
accuracy = "AP 69.7 (COCO val2017)"   # the published figure; optional
source = { kind = "pypi", package, version, python, platform }    # a wheel; the files are members of it
       | { kind = "https", url }      # a zip with the files (the end of a member's path is enough), or the file, or,
                                      # where the URL ends in a slash, the folder of files with a URL each
       | { kind = "file", path }      # a folder or a file, relative to the catalogue file; used in place
       | { kind = "checkpoint", architecture, url, file }   # weights to download by hand for `posewire build`
files = [{ path, sha256 }, ...]       # sha256 is optional; no `files` for a file itself and for checkpoints
input = { width, height, order = "rgb" | "bgr", mean = [r, g, b], std = [r, g, b], pad = 0..255 | "edge" }
options = { ... }                     # settings of the family; optional
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal, cast, get_args

from engines.catalogue import fetch as fetching
from engines.catalogue.fetch import (
    CheckpointSource,
    DownloadProgress,
    File,
    FileSource,
    HttpsSource,
    PypiSource,
    Source,
)
from engines.catalogue.tables import CatalogueError, Table
from engines.files import read_small, shown, without_mark
from engines.inputs import PixelInput
from engines.skeletons import SKELETONS

Role = Literal["detector", "estimator", "one-stage", "bottom-up"]

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MAX_SIDE = 4096
_LARGEST_FILE = 16 << 20


@dataclass(frozen=True, slots=True)
class Model:
    """A catalogue entry.

    skeleton: the keypoints it gives, None for a detector. detector: the model that finds the people for it, or None.
    commercial: whether its licence allows commercial use. bf16: whether bf16 is exact enough for it.
    accuracy: the published figure with its data set, or "".
    files: the first is the one that a runtime opens; empty for a model that has to be built.
    options: settings of its family, read only (lists are tuples).
    declared_in: its catalogue file. cache: the folder for fetched files. also: other entries' files of the same source.
    """

    name: str
    title: str
    role: Role
    family: str
    skeleton: str | None
    detector: str | None
    licence: str
    commercial: bool
    bf16: bool
    publisher: str
    accuracy: str
    source: Source
    files: tuple[File, ...]
    input: PixelInput
    options: Mapping[str, object] = field(hash=False)
    declared_in: Path = field(repr=False)
    cache: Path = field(repr=False)
    also: tuple[File, ...] = field(default=(), repr=False)

    @property
    def cached(self) -> bool:
        """True if its files are on this machine, so that `fetch` needs no network."""
        return fetching.is_cached(self.cache, self.source, self.files)

    def fetch(self, progress: DownloadProgress | None = None, *, connect_timeout: float = 3.0) -> Path:
        """Make sure that its files are here and intact; returns the path of the one that a runtime opens.

        Files without a sha256 in the catalogue are trusted on their first download, and verified against the digest of
        that download from then on (kept in `<file>.lock.json` beside the file).
        connect_timeout: seconds within which the publisher's server must accept the connection.
        Raises FetchError, in a plain sentence, if a file cannot be fetched or is not the one expected.
        """
        return fetching.fetch(
            self.cache, self.source, self.files, also=self.also, progress=progress, connect_timeout=connect_timeout
        )


@dataclass(frozen=True, slots=True)
class Entries:
    """The content of one catalogue file. defaults: None if it does not have them."""

    models: Mapping[str, Model]
    defaults: tuple[str, ...] | None


def read_entries(path: Path, cache: Path) -> Entries:
    """Read the catalogue file at `path`, whose models will keep fetched files in `cache`. Raises CatalogueError."""
    name = shown(path)
    try:
        text = without_mark(read_small(path, _LARGEST_FILE)).decode()
        top = Table(tomllib.loads(text), f"{name}:")
    except OSError as error:
        raise CatalogueError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{name}: is not TOML (it is not UTF-8 from byte {error.start} on)") from error
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(?at ((?:line|end)[^)]*)", str(error))
        raise CatalogueError(f"{name}: is not TOML (see {where[1] if where else 'the file'})") from error
    except RecursionError as error:
        raise CatalogueError(f"{name}: is not a catalogue (its lists or tables are nested too deep)") from error
    entries = top.take("models", dict, "tables [models.NAME]", {})
    defaults = top.take("defaults", list, "a list of model names", []) if top.has("defaults") else None
    top.finish()
    if not all(isinstance(name, str) for name in defaults or ()):
        raise top.error("defaults", "must be a list of model names")
    for name, entry in entries.items():
        if not re.fullmatch(_NAME, name) or not isinstance(entry, dict):
            raise top.error(f"[models.{name}]", f"must be a table, and its name of the form {_NAME}")
    return Entries(
        {name: _model(name, top.inner(entry, f"[models.{name}]"), path, cache) for name, entry in entries.items()},
        None if defaults is None else tuple(defaults),
    )


def _model(name: str, entry: Table, path: Path, cache: Path) -> Model:
    role = cast(Role, entry.text("role", allowed=get_args(Role)))
    source = _source(entry.table("source"), path)
    model = Model(
        name=name,
        title=entry.text("title", name),
        role=role,
        family=entry.text("family", pattern=_NAME),
        skeleton=None if role == "detector" else entry.text("skeleton", allowed=SKELETONS),
        detector=entry.text("detector") if role == "estimator" and entry.has("detector") else None,
        licence=entry.text("licence", "unknown"),
        commercial=entry.take("commercial", bool, "true or false", False),
        bf16=entry.take("bf16", bool, "true or false", True),
        publisher=entry.text("publisher", ""),
        accuracy=entry.text("accuracy", ""),
        source=source,
        files=_files(entry, source),
        input=_pixel_input(entry.table("input")),
        options=_frozen_table(entry.take("options", dict, "a table", {})),
        declared_in=path,
        cache=cache,
    )
    entry.finish()
    return model


def _source(table: Table, path: Path) -> Source:
    source: Source
    kind = table.text("kind", allowed=("pypi", "https", "file", "checkpoint"))
    if kind == "pypi":
        source = PypiSource(*(table.text(key, pattern=_NAME) for key in ("package", "version", "python", "platform")))
    elif kind == "https":
        source = HttpsSource(_url(table))
    elif kind == "checkpoint":
        source = CheckpointSource(table.text("architecture", pattern=_NAME), _url(table), table.text("file"))
    else:
        source = FileSource(Path(os.path.realpath(path)).parent / _users_path(table))
    table.finish()
    return source


def _users_path(table: Table) -> Path:
    path = table.text("path", pattern=r"[^\0]+")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise table.error("path", f"is {path!r}; there is no such user's folder") from None


def _url(table: Table) -> str:
    url = table.text("url")
    if not fetching.permitted(url):
        raise table.error("url", f"is {url!r}; it must be an https:// address (http:// only of this machine)")
    return url


def _files(entry: Table, source: Source) -> tuple[File, ...]:
    if isinstance(source, CheckpointSource):
        return ()
    if isinstance(source, FileSource) and not entry.has("files"):
        return (File(source.path.name),)
    return tuple(_file(table) for table in entry.tables("files"))


def _file(table: Table) -> File:
    path = table.text("path")
    inside = PurePosixPath(path)
    if not inside.name or inside.is_absolute() or ".." in inside.parts or "\\" in path or "\0" in path:
        raise table.error("path", f"is {path!r}; it must be relative, with slashes, and lead to a file of the source")
    sha256 = table.text("sha256", pattern=r"[0-9a-f]{64}") if table.has("sha256") else None
    table.finish()
    return File(path, sha256)


def _pixel_input(table: Table) -> PixelInput:
    default = PixelInput(1, 1)
    pixels = PixelInput(
        height=table.integer("height", 1, _MAX_SIDE),
        width=table.integer("width", 1, _MAX_SIDE),
        order=cast(Literal["rgb", "bgr"], table.text("order", default.order, allowed=("rgb", "bgr"))),
        mean=table.triple("mean", default.mean),
        std=table.triple("std", default.std),
        pad=cast(int | Literal["edge"], table.integer_or("edge", "pad", 0, 255, 0)),
    )
    if min(pixels.std) <= 0:
        raise table.error("std", "must be above 0")
    table.finish()
    return pixels


def _frozen_table(table: Mapping[str, object]) -> Mapping[str, object]:
    """The table made read-only at every level: all callers share an entry."""
    return MappingProxyType({key: _frozen(value) for key, value in table.items()})


def _frozen(value: object) -> object:
    if isinstance(value, dict):
        return _frozen_table(value)
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list) else value
