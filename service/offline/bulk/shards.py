"""The pieces in which a batch is done, and the files that they leave.

DST/parts/NAME.jsonl (or .csv)   what a shard of images found, under this name once all of it is there
DST/videos/NAME.json (or .csv)   the same of a video
DST/parts/NAME.done              the shard is done: its Summary, as JSON
DST/parts/NAME.at                what a worker is about to do, so that whoever finds it dead knows
DST/parts/NAME.journal           what the networks saw in a video that is not done
DST/parts/NAME.scratch           a video's copy out of an archive, while it is used
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from pydantic import TypeAdapter

from service.offline.bulk.listing import SourceFile

T = TypeVar("T")
Style = Literal["json", "coco", "csv"]

_SUFFIXES = {"json": ".jsonl", "coco": ".jsonl", "csv": ".csv"}
_LONGEST_NAME = 160
"""Bytes; with what is put before and behind it, file systems allow 255."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that was not done. path: as the listing names it. problem: a word. why: a sentence."""

    path: str
    problem: str
    why: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a shard. images, frames: that were looked at. people: found in images; identities in a video.

    sha256: of its result; empty where it has none, as a video that failed.
    """

    images: int = 0
    frames: int = 0
    people: int = 0
    failures: tuple[Failure, ...] = ()
    sha256: str = ""

    @staticmethod
    def read(path: Path) -> Summary | None:
        """As `publish_summary` wrote it; None where there is none, or it is damaged. Raises OSError."""
        return _read(path, Summary)


@dataclass(frozen=True, slots=True)
class Shard:
    """Images that lie side by side in the listing, or one video. number: among those of its kind."""

    number: int
    entries: tuple[SourceFile, ...]

    @property
    def video(self) -> bool:
        """Whether it is a video."""
        return self.entries[0].video

    @property
    def name(self) -> str:
        """What its files are called: nothing that a source could choose leads out of DST."""
        if not self.video:
            return f"images-{self.number:05d}"
        stem = re.sub(r"[^\w.-]", "_", PurePosixPath(self.entries[0].name).name).encode()[-_LONGEST_NAME:]
        return f"{self.number:05d}-{stem.decode('utf-8', 'ignore')}"

    def result(self, folder: Path, style: Style) -> Path:
        """Where its result goes."""
        if self.video:
            return folder / "videos" / (self.name + (".csv" if style == "csv" else ".json"))
        return folder / "parts" / (self.name + _SUFFIXES[style])

    def done(self, folder: Path) -> Path:
        """The file that says that it is done."""
        return folder / "parts" / f"{self.name}.done"

    def journal(self, folder: Path) -> Path:
        """Where a video's journal is until it is done."""
        return folder / "parts" / f"{self.name}.journal"

    def scratch(self, folder: Path) -> Path:
        """Where a video out of an archive is while it is used."""
        return folder / "parts" / f"{self.name}.scratch"

    def mark(self, folder: Path) -> Path:
        """Where the worker says what it is about to do."""
        return folder / "parts" / f"{self.name}.at"


def cut_into_shards(entries: Sequence[SourceFile], images_each: int) -> list[Shard]:
    """All shards: every so many images in their order, and each video for itself."""
    images = [entry for entry in entries if not entry.video]
    videos = [entry for entry in entries if entry.video]
    pieces = [tuple(images[start : start + images_each]) for start in range(0, len(images), images_each)]
    shards = [Shard(n, piece) for n, piece in enumerate(pieces)]
    return shards + [Shard(n, (video,)) for n, video in enumerate(videos)]


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """A file to write that takes its name when all of it is on the disk, and never appears after an error."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file in hex, "" where there is none. Raises OSError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def publish_summary(summary: Summary, path: Path) -> None:
    """Say that a shard is done."""
    with published(path) as part:
        part.write_text(json.dumps(asdict(summary)) + "\n", "utf-8")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a worker is about to do. at: the numbers of the entries. done: of the shard's steps; all of them is `of`."""

    at: tuple[int, ...]
    done: int
    of: int

    def write(self, path: Path) -> None:
        """So that it outlives the process, if not the machine."""
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(asdict(self)), "utf-8")
        part.replace(path)

    @staticmethod
    def read(path: Path) -> Mark | None:
        """The last one; None where there is none, or it is damaged. Raises OSError."""
        return _read(path, Mark)


def _read(path: Path, kind: type[T]) -> T | None:
    """The JSON of a `kind` that this module wrote, all of its keys; None where there is none, or it is damaged."""
    try:
        content = path.read_bytes()
        read = TypeAdapter(kind).validate_json(content, strict=True)
        return read if json.loads(content).keys() == asdict(read).keys() else None  # type: ignore[call-overload]
    except (FileNotFoundError, ValueError, RecursionError):
        return None
