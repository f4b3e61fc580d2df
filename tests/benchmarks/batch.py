"""Interrupted batches compared with uninterrupted ones: python -m tests.benchmarks batch [--json FILE]

200 images of 640x480 and two videos of 150 frames, with a small network behind a detector that finds two people. They
are processed by two local processes and by two actors of a local Ray cluster. One run of each kind is uninterrupted;
another is killed with -9 in the middle of a video and again between images, and then completed. Every file of the
results must be the same, byte for byte. The seconds include the start of processes and of Ray.
"""

from __future__ import annotations

import signal
import tempfile
import time
from functools import partial
from pathlib import Path

from tests.benchmarks.goals import goal, show
from tests.benchmarks.report import Row, main
from tests.pictures import encoded, photo
from tests.service.offline.bulk.runs import batch, between_images, end, in_a_video, make_archive, results, start

_IMAGES, _VIDEOS, _FRAMES = 200, 2, 150
_OPTIONS = ("--workers", 2, "--shard", 16)
_FAILED = 1
"""The exit code, because one of the images is broken."""


def run() -> list[Row]:
    """A row per kind of workers, followed by the goals."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = make_archive(folder, _IMAGES, _VIDEOS, _FRAMES)
        for n, path in enumerate(sorted(archive.rglob("[0-9]*.jpg"))):
            path.write_bytes(encoded(photo(seed=n)))
        rows: list[Row] = []
        goals: list[Row] = []
        undisturbed = []
        for kind, where in (("processes", ()), ("ray", ("--ray",))):
            whole, killed = folder / f"whole-{kind}", folder / f"killed-{kind}"
            catalogue = folder / "tiny.toml"
            began = time.monotonic()
            code, said = batch(catalogue, archive, whole, *_OPTIONS, *where)
            if code != _FAILED:
                raise RuntimeError(said)
            took = time.monotonic() - began
            undisturbed.append(results(whole))
            command = (archive, killed, *_OPTIONS, *where)
            end(start(catalogue, *command), signal.SIGKILL, partial(in_a_video, killed))
            end(start(catalogue, *command), signal.SIGKILL, partial(between_images, killed))
            shards = len(list(killed.glob("parts/*.done")))
            began = time.monotonic()
            code, said = batch(catalogue, *command)
            rows.append(
                {
                    "workers": kind,
                    "undisturbed s": round(took, 1),
                    "last of three runs s": round(time.monotonic() - began, 1),
                    "shards done when killed": f"{shards} of {len(list(killed.glob('parts/*.done')))}",
                    "files": len(results(killed)),
                }
            )
            differ = sum(results(killed).get(file) != data for file, data in undisturbed[-1].items())
            goals.append(goal(f"{kind}: files that differ after two kills", differ, "=", 0))
        differ = sum(undisturbed[1].get(file) != data for file, data in undisturbed[0].items())
        goals.append(goal("files that differ between processes and Ray", differ, "=", 0))
        return rows + goals


if __name__ == "__main__":
    main(run, show)
