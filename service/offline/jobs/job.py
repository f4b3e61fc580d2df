"""A video job: what is known of it, its files, and its limits."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

State = Literal["uploading", "queued", "running", "done", "failed", "deleted"]

SOURCE, UPLOAD = "source", "upload"
"""The video, with the suffix of its name; and its file while it is being uploaded, which is locked."""
POSES, DRAWN, ABOUT = "poses.ndjson", "drawn.mp4", "video.json"
"""The results, and what `video_document` says about the video."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a disk or a quota that is full."""


class DiskFullError(Exception):
    """The disk of the data folder is full. The message is for the user."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """jobs, bytes: of all jobs together, ended ones included. share: of both for one client. seconds: how long an ended
    job is kept.
    """

    jobs: int
    bytes: int
    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class JobProblem:
    """Why a job has failed, or what is damaged in its video. kind: of the API's problems."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A row. Times are seconds since 1970. skeleton: of the results, "native" for the model's own.

    fps: frames per second of late. bytes: of its files. starts: how often it was started without a clean end.
    """

    id: str
    client: str
    name: str
    suffix: str
    model: str
    skeleton: str
    min_score: float
    max_people: int
    state: State
    created: float
    started: float | None
    ended: float | None
    frames_done: int
    frames_total: int | None
    fps: float | None
    problem: JobProblem | None
    bytes: int
    starts: int

    @property
    def over(self) -> bool:
        """True if it has ended."""
        return self.state not in ("uploading", "queued", "running")
