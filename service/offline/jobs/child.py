"""The process that works on a video job: python -m service.offline.jobs.child SOCKET ARENA FRAME_BYTES MEMORY PARENT

It decodes, tracks, draws and encodes the video as `posewire video` does; the server's networks look at the frames,
which are passed in shared memory. Videos come from strangers, and FFmpeg is large: a file that crashes a decoder, keeps
it busy or makes it take all memory ends this process, and neither the server nor another job. The kernel ends it if a
frame takes more than a minute of processor time, and with the server. It gives way to everything else on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import cv2
import orjson

from engines.files import write_atomically
from engines.poses import Detections, Frame, Poses
from engines.skeletons import Skeleton
from service.inference.stage import InferenceOptions
from service.media.confinement import grant_time, limit_memory
from service.media.video_reader import VideoError, VideoFrame, VideoReader
from service.offline.jobs.job import ABOUT, DISK_FULL
from service.offline.jobs.messages import ChildTask, receive, send_message
from service.offline.journal import JournalError
from service.offline.resumable_tracking import FrameEstimator
from service.offline.video_outputs import video_document
from service.offline.video_records import unpack
from service.offline.videos import process_video
from service.process.parent import die_with_parent
from service.tracking_workers.arena import Arena

_NICE = 19
_CPU_SECONDS = 60
_MOST_FPS, _USUAL_PIXELS = 60, 1920 * 1080
"""Videos with more frames a second, or larger ones, count as longer: they take as much time."""


class _TooLargeError(Exception):
    """The video exceeds a limit. The message is for the user."""


class ServerEstimator:
    """A FrameEstimator with the networks of the server."""

    def __init__(self, task: ChildTask, arena: Arena, writer: asyncio.StreamWriter) -> None:
        self._task = task
        self._arena = arena
        self._writer = writer
        self._waiting: dict[int, asyncio.Future[bytes]] = {}  # by the frame's place in the arena

    @property
    def model(self) -> str:
        return self._task.model

    @property
    def skeleton(self) -> Skeleton:
        return self._task.skeleton

    @property
    def detects(self) -> bool:
        return self._task.detects

    async def estimate(self, frame: Frame, options: InferenceOptions, people: Detections | None = None) -> Poses:
        slot = next(n for n in count() if n not in self._waiting)
        record = self._waiting[slot] = asyncio.get_running_loop().create_future()
        offset = self._arena.write(slot, frame)
        boxes = (
            None if people is None else [people.boxes.astype("<f4").tobytes(), people.scores.astype("<f4").tobytes()]
        )
        rows, columns, _ = frame.shape
        about: dict[str, Any] = {"max_people": options.max_people, "min_score": options.min_score, "people": boxes}
        send_message(self._writer, type="frame", slot=slot, offset=offset, rows=rows, columns=columns, **about)
        try:
            return unpack(await record, self.skeleton).poses
        finally:
            del self._waiting[slot]

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Hand the server's records to those who wait. They come in any order."""
        while True:
            slot = int.from_bytes(await receive(reader), "little")
            record = await receive(reader)
            if not self._waiting[slot].done():
                self._waiting[slot].set_result(record)

    @asynccontextmanager
    async def opened(self, reader: asyncio.StreamReader) -> AsyncIterator[FrameEstimator]:
        """Listen to the server inside the context."""
        listening = asyncio.create_task(self.listen(reader))
        listening.add_done_callback(lambda _: self._give_up())
        try:
            yield self
        finally:
            listening.cancel()

    def _give_up(self) -> None:
        """The server has closed the connection, and will kill this process, or has ended."""
        for waiting in self._waiting.values():
            waiting.cancel()


async def work(connection: socket.socket, arena: Arena) -> None:
    """Do the task that the server sends, and tell it how that ended."""
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    task = ChildTask.unpacked(await receive(reader))
    try:
        outcome, problem = await _process(task, ServerEstimator(task, arena, writer), reader, writer)
        send_message(writer, type="end", outcome=outcome, problem=_public(problem, task))
    except _TooLargeError as error:
        send_message(writer, type="failed", kind="too-large", detail=str(error))
    except MemoryError:
        send_message(writer, type="failed", kind="too-large", detail="this video takes more memory than a job may take")
    except (VideoError, JournalError) as error:
        full = getattr(error.__cause__, "errno", None) in DISK_FULL
        detail = "the server's disk is full; try again later" if full else _public(str(error), task)
        send_message(writer, type="failed", kind="disk-full" if full else "not-a-video", detail=detail)
    except Exception:  # noqa: BLE001 - the server logs it
        send_message(writer, type="failed", kind="internal", detail=traceback.format_exc()[-60_000:])
    await writer.drain()
    writer.close()


async def _process(
    task: ChildTask, estimator: ServerEstimator, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[str, str]:
    with VideoReader(task.video.source) as video:
        info = video.info
        if info.width * info.height > task.pixels:
            shape = f"{info.width} x {info.height} pixels"
            raise _TooLargeError(f"its frames have {shape}, more than the {task.pixels / 1e6:g} million allowed here")
        frames = info.frames
        size = max(1.0, info.width * info.height / _USUAL_PIXELS)
        seconds = (frames or 0) / float(info.rate)
        _check_length(task, seconds, seconds * min(float(info.rate), _MOST_FPS) * size)
        send_message(writer, type="video", frames=frames)
        document = video_document(task.video.name, info, task.model, task.video.skeleton or task.skeleton)
        write_atomically(task.video.source.with_name(ABOUT), orjson.dumps(document))

        def advance(frame: VideoFrame) -> None:
            grant_time(_CPU_SECONDS)
            _check_length(task, frame.seconds, frame.number * size)
            send_message(writer, type="done", frames=frame.number + 1)

        return await process_video(video, task.video, task.model, estimator.opened(reader), advance=advance)


def _check_length(task: ChildTask, seconds: float, frames: float) -> None:
    """Raise _TooLargeError if a video is too long. frames: of the usual size, so far."""
    if seconds > task.seconds:
        raise _TooLargeError(f"it is longer than the {task.seconds / 60:g} minutes allowed here")
    if frames / _MOST_FPS > task.seconds:
        text = f"it has more work than {task.seconds / 60:g} minutes of 1920 x 1080 pixels at {_MOST_FPS} frames/s"
        raise _TooLargeError(f"{text}, as many as are allowed here; make it shorter or smaller")


def _public(message: str, task: ChildTask) -> str:
    """A message with the name of the video that its sender knows, in place of a path of this machine."""
    return message.replace(str(task.video.source), task.video.name).replace(f"{task.video.source.parent}/", "")


def main() -> None:
    """Work for the server that has started this process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the server kills this process when it ends
        signal.signal(number, signal.SIG_IGN)
    fd, arena, frame_bytes, memory, parent = map(int, sys.argv[1:])
    die_with_parent(parent)
    with contextlib.suppress(OSError):  # a sandbox may deny it
        os.nice(_NICE)
    limit_memory(memory)
    cv2.setNumThreads(1)
    grant_time(_CPU_SECONDS)
    asyncio.run(work(socket.socket(fileno=fd), Arena(frame_bytes, arena)))


if __name__ == "__main__":
    main()
