"""Video jobs as JSON, for their client and for the list that replicas share."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import orjson
from pydantic import ValidationError

from service.api.problems import KINDS
from service.api.schemas import VideoJobResponse
from service.api.state import ServerState
from service.offline.jobs.job import JobProblem, VideoJob

_SHARE_S, _REPEAT_S = 1.0, 10.0
"""How often the list of jobs in Redis is written if they have changed, and if they have not: it expires."""


def job_document(server: ServerState, job: VideoJob) -> dict[str, Any]:
    """The response for a job, see `VideoJobResponse`."""
    here = f"/videos/{job.id}"
    done, total = job.frames_done, job.frames_total
    percent = min(100 * done / total, 99.9) if total and job.state == "running" else None
    left = max(0, total - done) / job.fps if total and job.fps and job.state == "running" else None
    models = server.serving.models if server.serving is not None else {}
    native = models[job.model].skeleton.name if job.model in models else job.skeleton
    return {
        "id": job.id,
        "name": job.name,
        "model": job.model,
        "skeleton": native if job.skeleton == "native" else job.skeleton,
        "state": job.state,
        "created": datetime.fromtimestamp(job.created, UTC).isoformat(timespec="milliseconds"),
        "frames_done": done,
        "frames_total": total,
        "percent": 100.0 if job.state == "done" else None if percent is None else round(percent, 1),
        "fps": None if job.fps is None else round(job.fps, 1),
        "seconds_left": None if left is None else round(left, 1),
        "error": None if job.problem is None else problem_document(job.problem),
        "links": {"self": here, "events": f"{here}/events", "poses": f"{here}/poses", "video": f"{here}/video"},
    }


def problem_document(problem: JobProblem) -> dict[str, Any]:
    kind = KINDS.get(problem.kind, KINDS["internal"])
    return {
        "type": f"/problems/{problem.kind}",
        "title": kind.title,
        "status": int(kind.status),
        "detail": problem.detail,
    }


def is_job(document: object) -> bool:
    """True if a document from Redis is one of `job_document`."""
    try:
        VideoJobResponse.model_validate(document, strict=True)
    except ValidationError:
        return False
    return True


async def share_jobs(server: ServerState) -> None:
    """Write this server's jobs to the list of all replicas whenever they have changed."""
    assert server.shared_jobs is not None  # noqa: S101 - tells the type checker
    assert server.videos is not None  # noqa: S101
    videos, last, written = server.videos, b"", -_REPEAT_S
    while True:
        lists: dict[str, list[dict[str, Any]]] = {}
        for job in await videos.call(videos.store.all):
            lists.setdefault(job.client, []).append(job_document(server, job))
        now, text = time.monotonic(), orjson.dumps(lists)
        if text != last or now - written > _REPEAT_S:
            await server.shared_jobs.write(lists)
            last, written = text, now
        await asyncio.sleep(_SHARE_S)
