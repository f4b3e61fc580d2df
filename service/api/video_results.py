"""The poses of a video job as the body of a response, piece by piece, in each format."""

from __future__ import annotations

import asyncio
import os
import pickle  # of what this process sends to its own child
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from engines.skeletons import Skeleton
from service.api.state import ServerState
from service.api.video_documents import problem_document
from service.offline.jobs.job import ABOUT, POSES, JobProblem, VideoJob

KEEP_ALIVE_S = 15.0
"""A load balancer may close a connection on which nothing is sent for longer."""
_POLL_S = 0.3
_PIECE = 1 << 16


async def follow(server: ServerState, job: VideoJob) -> AsyncIterator[bytes]:
    """The lines of NDJSON so far, and then those that are added until the job has ended.

    Blank lines keep the connection open. The last line of a job that has failed or was deleted is its `error`.
    """
    videos = server.videos
    assert videos is not None  # noqa: S101 - tells the type checker
    folder = videos.store.folder(job.id)
    paths = folder / POSES, folder / f"{POSES}.part"
    file = None
    sent = time.monotonic()
    try:
        while True:
            current = await videos.get(job.id)
            ended = current is None or current.over or server.draining  # before the last read, which is then whole
            if file is None:
                file = await asyncio.to_thread(_open_first, paths)
            while file is not None and (piece := await asyncio.to_thread(file.read, _PIECE)):
                yield piece
                sent = time.monotonic()
            if ended:
                if current is None or current.state == "failed":
                    deleted = JobProblem("not-found", "the job was deleted")
                    problem = deleted if current is None else current.problem or deleted
                    yield orjson.dumps({"error": problem_document(problem)}) + b"\n"
                return
            if time.monotonic() - sent > KEEP_ALIVE_S:
                yield b"\n"
                sent = time.monotonic()
            await asyncio.sleep(_POLL_S)
    finally:
        if file is not None:
            file.close()


def _open_first(paths: tuple[Path, ...]) -> Any:
    """Open the first of these files that exists, unbuffered. None if there is none yet."""
    for path in paths:
        with suppress(FileNotFoundError):
            return path.open("rb", buffering=0)
    return None


async def json_lines(folder: Path) -> AsyncIterator[bytes]:
    """The file that `posewire video --poses` writes: the lines of NDJSON as a list."""
    about = await asyncio.to_thread((folder / ABOUT).read_bytes)
    yield about[:-1] + b',"frames":[\n'
    with await asyncio.to_thread((folder / POSES).open, "rb") as file:
        held = b""  # the last line end, which no comma follows
        while piece := await asyncio.to_thread(file.read, _PIECE):
            lines = held + piece
            held = b"\n" if lines.endswith(b"\n") else b""
            yield lines.removesuffix(b"\n").replace(b"\n", b",\n")
    yield b"\n]}\n"


async def converted(kind: str, folder: Path, skeleton: Skeleton) -> AsyncIterator[bytes]:
    """The output of a process that converts a job's poses, see `results`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.offline.jobs.results", kind),
        *(str(folder / POSES), str(folder / ABOUT), str(os.getpid())),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env={k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")},
    )
    assert process.stdin is not None  # noqa: S101 - tells the type checker
    assert process.stdout is not None  # noqa: S101
    try:
        process.stdin.write(pickle.dumps(skeleton))
        process.stdin.close()
        while piece := await process.stdout.read(_PIECE):
            yield piece
        if await process.wait():
            raise RuntimeError(f"the conversion of a video job's poses to {kind} ended with {process.returncode}")
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
