"""Shards, the units of work of a batch, and their files:

DST/parts/NAME.jsonl (or .csv)   the results of a shard of images; gets this name when it is complete
DST/videos/NAME.json (or .csv)   the results of a video, likewise
DST/parts/NAME.done              the Summary of a finished shard, as JSON
DST/parts/NAME.at                the Mark: what a worker is about to do, read if it dies
DST/parts/NAME.journal           the estimates of an unfinished video
DST/parts/NAME.scratch           a temporary copy of a video in an archive
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydantic import TypeAdapter

from engines.files import published
from service.offline.bulk.listing import SourceFile

Style = Literal["json", "coco", "csv"]

_SUFFIXES = {"json": ".jsonl", "coco": ".jsonl", "csv": ".csv"}
_LONGEST_NAME = 160
"""Bytes. With prefix and suffix, a name stays within the 255 bytes that file systems allow."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that failed. path: its name in the listing. problem: a word. why: a sentence."""

    path: str
    problem: str
    why: str


class _Record:
    """A dataclass in a file of its own, as JSON."""

    def write(self, path: Path, *, durable: bool = True) -> None:
        """Replace the file at `path`, see `published`."""
        with published(path, durable=durable) as part:
            part.write_text(json.dumps(asdict(self)) + "\n", "utf-8")  # type: ignore[call-overload]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read what was written, with exactly its keys; None if it is missing or damaged. Raises OSError."""
        try:
            content = path.read_bytes()
            read = TypeAdapter(cls).validate_json(content, strict=True)
            return read if json.loads(content).keys() == asdict(read).keys() else None  # type: ignore[call-overload]
        except (FileNotFoundError, ValueError, RecursionError):
            return None


@dataclass(frozen=True, slots=True)
class Summary(_Record):
    """The outcome of a shard. images, frames: number processed. people: found in images, or identities in a video.

    sha256: digest of the result; "" if there is none, as for a video that failed.
    """

    images: int = 0
    frames: int = 0
    people: int = 0
    failures: tuple[Failure, ...] = ()
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive images of the listing, or one video. number: index among the shards of its kind."""

    number: int
    entries: tuple[SourceFile, ...]

    @property
    def video(self) -> bool:
        return self.entries[0].video

    @property
    def name(self) -> str:
        """The stem of its files' names. Names in the source cannot make it lead out of DST."""
        if not self.video:
            return f"images-{self.number:05d}"
        stem = re.sub(r"[^\w.-]", "_", PurePosixPath(self.entries[0].name).name).encode()[-_LONGEST_NAME:]
        return f"{self.number:05d}-{stem.decode('utf-8', 'ignore')}"

    def result(self, folder: Path, style: Style) -> Path:
        """The path of its result."""
        if self.video:
            return folder / "videos" / (self.name + (".csv" if style == "csv" else ".json"))
        return folder / "parts" / (self.name + _SUFFIXES[style])

    def file(self, folder: Path, suffix: str) -> Path:
        """The path of one of its files in `parts`, see above."""
        return folder / "parts" / f"{self.name}{suffix}"


def cut_into_shards(entries: Sequence[SourceFile], images_each: int) -> list[Shard]:
    """Divide the entries into shards of `images_each` images, in order, and one shard per video."""
    images = [entry for entry in entries if not entry.video]
    videos = [entry for entry in entries if entry.video]
    groups = [tuple(images[start : start + images_each]) for start in range(0, len(images), images_each)]
    shards = [Shard(n, group) for n, group in enumerate(groups)]
    return shards + [Shard(n, (video,)) for n, video in enumerate(videos)]


def digest_of(path: Path) -> str:
    """The SHA-256 of a file in hex; "" if there is no file. Raises OSError."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


@dataclass(frozen=True, slots=True)
class Mark(_Record):
    """What a worker is about to do. at: numbers of the entries. done: finished steps of the shard, out of `of`.

    Need not be durable: it tells why a process has died, not why a machine has.
    """

    at: tuple[int, ...]
    done: int
    of: int
