"""Readers of users' files return a result or raise their own error for any bytes, in bounded time and memory.

POSEWIRE_FUZZ_SECONDS: about how long each test runs.
"""

from __future__ import annotations

import os
import resource
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from engines.catalogue import CatalogueError, load
from engines.catalogue.fetch import records
from engines.catalogue.models import BUILT_IN
from engines.skeletons import COCO_17, POSETRACK_15
from service.evaluation.files import evaluate_coco, evaluate_posetrack
from service.formats.coco import coco_annotations, coco_results, read_coco
from service.formats.openpose import openpose_document, read_openpose
from service.formats.parsing import FormatError
from service.formats.posetrack import posetrack_document
from service.formats.posewire import people_list, read_posewire
from service.formats.sequence import PoseFrame, PoseSequence
from service.formats.table import csv_table, read_table
from service.offline.bulk.errors import BulkError, UnreadableError
from service.offline.bulk.listing import list_source
from service.offline.bulk.manifest import agree, claimed
from service.offline.bulk.shards import Mark, Summary
from service.offline.bulk.sources import open_source
from service.offline.journal import Journal, JournalError
from service.offline.video_records import JournaledFrame, pack, unpack
from tests.service.formats.people import two_people
from tests.service.offline.bulk.archives import make_tar, make_zip

_SECONDS = int(os.environ.get("POSEWIRE_FUZZ_SECONDS", "1"))
_MOST_MEMORY = 512 << 20
"""Additional bytes that a reader may allocate for files of some kilobytes."""

Read = Callable[[Path], object]
FUZZ = settings(max_examples=60 * _SECONDS, deadline=None, suppress_health_check=list(HealthCheck))
PLACES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=4)
"""Bytes to overwrite, each with its position as a fraction of the file."""


@contextmanager
def bounded() -> Iterator[None]:
    """Limit how much more memory may be allocated."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def mutated(data: bytes, places: list[tuple[float, bytes]], cut: float) -> bytes:
    content = bytearray(data)
    for place, put in places:
        at = int(place * len(content))
        content[at : at + len(put)] = put
    return bytes(content[: round(cut * len(content))])


def archive(kind: str, folder: Path) -> bytes:
    names = ("a.jpg", "ö.mp4", "sub/b.png", "n.txt")
    if kind == "tar":
        return make_tar(folder / "a.tar", *((name, name.encode() * 9) for name in names)).read_bytes()
    if kind == "pax":
        with tarfile.open(folder / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo("x" * 200 + name))
        return (folder / "a.tar").read_bytes()
    how = {"zip": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}[kind]
    return make_zip(folder / "a.zip", {name: name.encode() * 9 for name in names}, how).read_bytes()


@pytest.mark.parametrize("kind", ["zip", "bzip2", "lzma", "tar", "pax"])
def test_archives(kind: str, tmp_path: Path) -> None:
    whole = archive(kind, tmp_path)
    path = tmp_path / ("mutated.tar" if kind in ("tar", "pax") else "mutated.zip")

    @FUZZ
    @given(places=PLACES, cut=st.sampled_from([1.0, 1.0, 0.9, 0.5, 0.1]), ends=st.booleans())
    @example(places=[], cut=1.0, ends=False)
    def fuzz(places: list[tuple[float, bytes]], cut: float, ends: bool) -> None:
        if ends:  # the directory of a zip is at its end
            places = [(1 - (1 - place) / 3, put) for place, put in places]
        path.write_bytes(mutated(whole, places, cut))
        with suppress(BulkError), bounded():
            listing = list_source(path, tmp_path / "out")
            with closing(open_source(listing.kind, listing.root)) as source:
                for entry in listing.entries:
                    entry.name.encode()
                    if not entry.problem:
                        with suppress(UnreadableError):
                            assert len(source.read(entry, 1000)) <= 1001

    fuzz()


@FUZZ
@given(st.binary(max_size=300))
def test_lists(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        path.write_bytes(content)
        with suppress(BulkError):
            for entry in list_source(path, Path(folder) / "out").entries:
                entry.name.encode()


def plain(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


HEADS = np.array([[0, 0, 9, 9]] * 2, np.float32)
SEQUENCE = PoseSequence("v", COCO_17, (PoseFrame("a.jpg", two_people(), 5, width=64, height=48, head_boxes=HEADS),))
TRACKS = PoseSequence("v", POSETRACK_15, SEQUENCE.frames)
IMAGE = {"image": "a", "width": 64, "height": 48, "skeleton": "coco-17", "people": people_list(two_people())}
TRUTH, RESULTS = plain(coco_annotations(SEQUENCE)), plain(coco_results(two_people(), 5))


def evaluated(*, truth: bool) -> Read:
    """Return a reader that evaluates the file as the ground truth, or as the results."""

    def measure(path: Path) -> object:
        other = path.with_name("other.json")
        other.write_bytes(RESULTS if truth else TRUTH)
        return evaluate_coco(*((path, other) if truth else (other, path))).table()

    return measure


POSES: dict[str, tuple[Read, bytes]] = {
    "coco": (read_coco, TRUTH),
    "coco truth": (evaluated(truth=True), TRUTH),
    "coco results": (evaluated(truth=False), RESULTS),
    "posetrack": (lambda path: evaluate_posetrack(path, path).table(), plain(posetrack_document(TRACKS))),
    "openpose": (read_openpose, plain(openpose_document(two_people()))),
    "posewire": (read_posewire, plain(IMAGE)),
    "csv": (read_table, csv_table([("a", two_people()), ("b", two_people())]).encode()),
}
WORDS = st.sampled_from(
    [b"null", b"NaN", b"-1", b"1e99", b"true", b'""', b"[]", b"{}", b"99999999999999999999", b",", b"\n"]
)


@pytest.mark.parametrize("name", POSES)
def test_poses(name: str, tmp_path: Path) -> None:
    read, whole = POSES[name]
    path = tmp_path / "poses.json"

    @FUZZ
    @given(places=PLACES, words=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), WORDS), max_size=2))
    @example(places=[], words=[])
    def fuzz(places: list[tuple[float, bytes]], words: list[tuple[float, bytes]]) -> None:
        content = mutated(whole, places, 1.0)
        for place, word in words:  # replaces a value or a cell
            parts: list[Any] = content.split(b",")
            parts[int(place * len(parts))] = word
            content = b",".join(parts)
        path.write_bytes(content)
        with bounded():
            if content == whole:
                assert read(path)
            else:
                with suppress(FormatError):
                    read(path)

    fuzz()


@FUZZ
@given(places=PLACES, cut=st.sampled_from([1.0, 0.9, 0.3]))
def test_catalogues(places: list[tuple[float, bytes]], cut: float) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(mutated(BUILT_IN.read_bytes()[:6000], places, cut))
        with suppress(CatalogueError):
            load([path], Path(folder))


@FUZZ
@given(places=PLACES, cut=st.sampled_from([1.0, 0.9, 0.3]), anything=st.none() | st.binary(max_size=100))
def test_journals_summaries_and_manifests(
    places: list[tuple[float, bytes]], cut: float, anything: bytes | None
) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "journal"
        with Journal(path, {"video": "a"}) as journal:
            for n in range(3):
                journal.append(pack(JournaledFrame(n, True, two_people())))
        path.write_bytes(mutated(path.read_bytes(), places, cut))
        with suppress(JournalError), Journal(path, {"video": "a"}) as journal:
            while (record := journal.next()) is not None:
                unpack(record, COCO_17)
            journal.append(b"more")
        with suppress(JournalError):
            unpack(
                mutated(pack(JournaledFrame(1, True, two_people())), places, cut) if anything is None else anything,
                COCO_17,
            )

        Summary(1, 2, 3, (), "0" * 64).write(folder / "done")
        content = mutated((folder / "done").read_bytes(), places, cut) if anything is None else anything
        for file in ("done", "manifest.json", "networks.json", "model.lock.json"):
            (folder / file).write_bytes(content)
        Summary.read(folder / "done")
        Mark.read(folder / "done")
        records.read(folder / "model")
        with suppress(BulkError), claimed(folder, {}):
            pass
        with suppress(BulkError):
            agree(folder, {})
