"""A job's poses in other formats: python -m service.offline.jobs.results FORMAT POSES ABOUT PARENT <SKELETON >RESULT

POSES and ABOUT are files of the job, SKELETON is pickled. Hours of video take minutes and a processor, so a process of
its own converts them, frame by frame; the server passes on what it writes.
"""

from __future__ import annotations

import csv
import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from engines.poses import Poses
from engines.skeletons import Skeleton
from service.formats.coco import coco_results
from service.formats.posetrack import posetrack_document
from service.formats.sequence import PoseFrame, PoseSequence, SequencePerson, gather
from service.formats.table import HEADER, keypoint_lines
from service.process.parent import die_with_parent

Lines = Iterator[bytes]


def read_frames(poses: Path, about: dict[str, Any], skeleton: Skeleton) -> Iterator[PoseFrame]:
    """Read the lines of NDJSON that `FramesFile` has written."""
    with poses.open("rb") as lines:
        for line in lines:
            frame = orjson.loads(line)
            number = frame["frame"]
            people = gather(skeleton, [_person(person) for person in frame["people"]])
            size = {"width": about["width"], "height": about["height"]}
            yield PoseFrame(f"{number:06d}.jpg", people, number, frame["time"], **size)


def _person(person: dict[str, Any]) -> SequencePerson:
    rows = np.array(person["keypoints"], np.float32)
    box = np.array(person["box"], np.float32)
    return SequencePerson(rows[:, :2], rows[:, 2], box, person["score"], person.get("id"))


def csv_rows(poses: Path, about: dict[str, Any], skeleton: Skeleton) -> Lines:
    """As `posewire video --poses` writes it."""
    yield _csv([("frame", "time", *HEADER[1:])])
    for frame in read_frames(poses, about, skeleton):
        yield _csv((frame.number, f"{frame.timestamp:.6f}", *row) for row in keypoint_lines(frame.poses))


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def coco_entries(poses: Path, about: dict[str, Any], skeleton: Skeleton) -> Lines:
    """COCO's results; a frame's number is its image_id."""
    yield from _listed(
        entry for frame in read_frames(poses, about, skeleton) for entry in coco_results(frame.poses, frame.number or 0)
    )
    yield b"\n"


def posetrack_parts(poses: Path, about: dict[str, Any], skeleton: Skeleton) -> Lines:
    """PoseTrack's format of 2018, see `posetrack_document`."""
    with poses.open("rb") as lines:
        count = sum(1 for _ in lines)
    frames = (replace(frame, poses=Poses.empty(skeleton)) for frame in read_frames(poses, about, skeleton))
    yield b'{"images":'
    yield from _listed(image | {"nframes": count} for frame in frames for image in _posetrack(frame)["images"])
    yield b',"annotations":'
    people = (one for frame in read_frames(poses, about, skeleton) for one in _posetrack(frame)["annotations"])
    yield from _listed(person | {"id": number} for number, person in enumerate(people))
    categories = posetrack_document(PoseSequence("", skeleton, ()))["categories"]
    yield b',"categories":' + orjson.dumps(categories) + b"}\n"


def _posetrack(frame: PoseFrame) -> dict[str, Any]:
    return posetrack_document(PoseSequence("", frame.poses.skeleton, (frame,)))


def _listed(entries: Iterator[dict[str, Any]]) -> Lines:
    """A JSON list with one line for each entry."""
    yield b"["
    for number, entry in enumerate(entries):
        yield (b",\n" if number else b"\n") + orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)
    yield b"\n]"


CONVERSIONS: dict[str, Callable[[Path, dict[str, Any], Skeleton], Lines]] = {
    "csv": csv_rows,
    "coco": coco_entries,
    "posetrack": posetrack_parts,
}


def main() -> None:
    """Convert for the server that has started this process."""
    kind, poses, about, parent = sys.argv[1:]
    die_with_parent(int(parent))
    with suppress(OSError):  # a sandbox may deny it
        os.nice(10)
    skeleton: Skeleton = pickle.load(sys.stdin.buffer)  # noqa: S301 - the server has sent it
    document = orjson.loads(Path(about).read_bytes())
    with suppress(BrokenPipeError):  # the client has left
        for piece in CONVERSIONS[kind](Path(poses), document, skeleton):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
