"""Video jobs: POST /videos takes a video, GET and DELETE /videos/{id} show and delete the job and its results."""

from __future__ import annotations

import asyncio
import os
import pickle  # of what this process sends to its own child
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response, StreamingResponse

from engines.skeletons import POSETRACK_15, Skeleton, derivable
from service.api.problems import KINDS, ApiError
from service.api.schemas import Problem, VideoJobResponse, VideoList, VideoQuery
from service.api.state import ServerState
from service.api.video_upload import FIELD, RAW_TYPES, VideoUpload, check_head
from service.offline.jobs.store import ABOUT, DRAWN, POSES, JobProblem, VideoJob
from service.offline.jobs.video_jobs import VideoJobs

router = APIRouter()

_CLIENT_LEFT = 499
_SHARE_S, _REPEAT_S = 1.0, 10.0
"""How often the list of jobs in Redis is written if they have changed, and if they have not: it expires."""
_POLL_S = 0.3
_KEEP_ALIVE_S = 15.0
"""A load balancer may close a connection on which nothing is sent for longer."""
_PIECE = 1 << 16
_BYTES = {"type": "string", "format": "binary"}
_BODIES = {
    **{kind: {"schema": _BYTES} for kind in RAW_TYPES},
    "multipart/form-data": {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _BYTES}}},
}
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 503: {"model": Problem}}
_NOT_READY: dict[int | str, dict[str, Any]] = {**_NOT_FOUND, 409: {"model": Problem}}

Formats = Literal["ndjson", "json", "csv", "posetrack", "coco"]
_TYPES = {"ndjson": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}


@router.post(
    "/videos",
    summary="Find and track the people in a video, in the background",
    status_code=202,
    response_model=VideoJobResponse,
    openapi_extra={"requestBody": {"required": True, "content": _BODIES}},
    responses={status: {"model": Problem} for status in (404, 413, 415, 422, 503, 507)},
)
async def create(request: Request, query: Annotated[VideoQuery, Query()]) -> Response:
    """The body is a video file, or multipart/form-data with a part `file`. The answer is a job, at `Location`."""
    server = ServerState.of(request)
    videos = _videos(server)
    size = check_head(request, server.settings)
    served = server.find_model(query.model)
    server.find_skeleton(served, query.skeleton)
    client: str = request.scope["state"]["client"]
    most = server.settings.max_people
    about = {
        "model": served.model.name,
        "skeleton": query.skeleton,
        "min_score": query.min_score,
        "max_people": min(query.max_people or most, most),
    }
    job, handle = await videos.call(videos.store.create, client, about, size)
    queued: VideoJob | None = None
    try:
        upload = VideoUpload(server.settings, handle, size, lambda size: videos.call(videos.store.grow, job, size))
        await upload.receive(request)
        name = (query.name or upload.name or "video")[:200]
        queued = await videos.call(videos.store.queue, job, name, upload.size)
    except ClientDisconnect:
        return Response(status_code=_CLIENT_LEFT)  # which nobody gets
    finally:
        os.close(handle)
        if queued is None:  # also if the client has left
            await asyncio.shield(videos.delete(job))
    if queued is None:
        raise ApiError("overloaded", "the upload was interrupted; send it again", retry_after_s=1.0)
    videos.wake()
    document = job_document(server, queued)
    return Response(orjson.dumps(document), 202, {"location": document["links"]["self"]}, "application/json")


@router.get("/videos", summary="This client's video jobs", response_model=VideoList, responses=_NOT_FOUND)
async def listing(request: Request) -> Response:
    """The newest first."""
    server = ServerState.of(request)
    videos = _videos(server)
    client = request.scope["state"]["client"]
    jobs = [job_document(server, job) for job in await videos.call(videos.store.of, client)]
    if server.shared_jobs is not None:
        jobs += [job for job in await server.shared_jobs.read(client) if _is_job(job)]
        jobs.sort(key=itemgetter("created"), reverse=True)
    return _json({"videos": jobs})


def _is_job(document: object) -> bool:
    """True if a document from Redis is one of `job_document`."""
    try:
        VideoJobResponse.model_validate(document, strict=True)
    except ValidationError:
        return False
    return True


async def share_jobs(server: ServerState) -> None:
    """Write this server's jobs to the list of all replicas whenever they have changed."""
    assert server.shared_jobs is not None  # noqa: S101 - tells the type checker
    videos, last, written = _videos(server), b"", -_REPEAT_S
    while True:
        lists: dict[str, list[dict[str, Any]]] = {}
        for job in await videos.call(videos.store.all):
            lists.setdefault(job.client, []).append(job_document(server, job))
        now, text = time.monotonic(), orjson.dumps(lists)
        if text != last or now - written > _REPEAT_S:
            await server.shared_jobs.write(lists)
            last, written = text, now
        await asyncio.sleep(_SHARE_S)


@router.get("/videos/{job_id}", summary="A video job", response_model=VideoJobResponse, responses=_NOT_FOUND)
async def show(request: Request, job_id: str) -> Response:
    """Its state and progress. `links` has its parts."""
    server = ServerState.of(request)
    return _json(job_document(server, await _find(server, request, job_id)))


@router.delete("/videos/{job_id}", summary="Cancel and forget a video job", status_code=204, responses=_NOT_FOUND)
async def delete(request: Request, job_id: str) -> Response:
    """Its results are deleted, too."""
    server = ServerState.of(request)
    job = await _find(server, request, job_id)
    await _videos(server).delete(job.id)
    return Response(status_code=204)


@router.get(
    "/videos/{job_id}/events",
    summary="A video job as server-sent events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **_NOT_FOUND},
)
async def events(request: Request, job_id: str) -> Response:
    """An event `job` with the job whenever it has changed, until it has ended."""
    server = ServerState.of(request)
    job = await _find(server, request, job_id)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(server, job), headers=headers, media_type="text/event-stream")


async def _events(server: ServerState, job: VideoJob) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    last, sent = b"", -_KEEP_ALIVE_S
    current: VideoJob | None = job
    while current is not None:
        data = orjson.dumps(job_document(server, current))
        if data != last:
            yield b"event: job\ndata: " + data + b"\n\n"
        elif loop.time() - sent > _KEEP_ALIVE_S:
            yield b":\n\n"
        if data != last or loop.time() - sent > _KEEP_ALIVE_S:
            last, sent = data, loop.time()
        if current.over or server.draining:
            return
        await asyncio.sleep(_POLL_S)
        current = await _videos(server).get(job.id)


@router.get(
    "/videos/{job_id}/poses",
    summary="The poses of a video job",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/json": {}, "application/x-ndjson": {}, "text/csv": {}}},
        **_NOT_READY,
        422: {"model": Problem},
    },
)
async def poses(
    request: Request,
    job_id: str,
    kind: Annotated[
        Formats, Query(alias="format", description="json, csv: as `posewire video` writes them; coco: results")
    ] = "json",
) -> Response:
    """NDJSON has a line for each frame, and goes on until the job has ended. The other formats are for whole jobs."""
    server = ServerState.of(request)
    job = await _find(server, request, job_id)
    folder = _videos(server).store.folder(job.id)
    if kind == "ndjson" and job.state != "failed":
        return StreamingResponse(_follow(server, job, folder), media_type=_TYPES[kind])
    _check_done(job)
    skeleton = _skeleton_of(server, job)
    if kind == "posetrack" and not derivable(skeleton, POSETRACK_15).any():
        raise ApiError("bad-parameter", f"format: PoseTrack's has no keypoint of {skeleton.name}")
    if kind == "json":
        return StreamingResponse(_json_lines(folder), media_type="application/json")
    return StreamingResponse(
        _converted(server, kind, folder, skeleton), media_type=_TYPES.get(kind, "application/json")
    )


@router.get(
    "/videos/{job_id}/video",
    summary="The video of a job with the skeletons drawn",
    response_class=FileResponse,
    responses={
        200: {"content": {"video/mp4": {}}},
        206: {"description": "a part of it", "content": {"video/mp4": {}}},
        **_NOT_READY,
    },
)
async def drawn(request: Request, job_id: str) -> Response:
    """MP4 with H.264, which browsers play; takes `Range`."""
    server = ServerState.of(request)
    job = await _find(server, request, job_id)
    _check_done(job)
    path = _videos(server).store.folder(job.id) / DRAWN
    try:
        about = await asyncio.to_thread(path.stat)
    except FileNotFoundError:  # deleted a moment ago
        raise _unknown(job_id) from None
    name = f"{Path(job.name).stem or 'video'}.mp4"
    return FileResponse(
        path, media_type="video/mp4", filename=name, stat_result=about, content_disposition_type="inline"
    )


async def _follow(server: ServerState, job: VideoJob, folder: Path) -> AsyncIterator[bytes]:
    """The lines of NDJSON so far, and then those that are added until the job has ended."""
    paths = folder / POSES, folder / f"{POSES}.part"
    file = None
    try:
        while True:
            current = await _videos(server).get(job.id)
            ended = current is None or current.over or server.draining  # before the last read, which is then whole
            if file is None:
                file = await asyncio.to_thread(_open_first, paths)
            while file is not None and (piece := await asyncio.to_thread(file.read, _PIECE)):
                yield piece
            if ended:
                if current is None or current.state == "failed":
                    deleted = JobProblem("not-found", "the job was deleted")
                    problem = deleted if current is None else current.problem or deleted
                    yield orjson.dumps({"error": _problem_document(problem)}) + b"\n"
                return
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


async def _json_lines(folder: Path) -> AsyncIterator[bytes]:
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


async def _converted(server: ServerState, kind: str, folder: Path, skeleton: Skeleton) -> AsyncIterator[bytes]:
    """The output of a process that converts a job's poses, see `results`."""
    async with server.conversions:
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


def _videos(server: ServerState) -> VideoJobs:
    if server.videos is None:
        raise ApiError("not-found", "this server takes no video jobs: it has no folder for them, or max_videos is 0")
    return server.videos


async def _find(server: ServerState, request: Request, job_id: str) -> VideoJob:
    """Return a job. Raises ApiError if there is none, or it belongs to another key."""
    videos = _videos(server)
    # Not `videos.get`: another process may just have told the client that the job has ended.
    job = await videos.call(videos.store.get, job_id[:100])
    if job is None or (server.keys.digests and job.client != request.scope["state"]["client"]):
        raise _unknown(job_id)
    return job


def _unknown(job_id: str) -> ApiError:
    text = "jobs are deleted some time after they ended, and the replica that has one may be away"
    return ApiError("not-found", f"there is no video job {job_id[:100]!r}; {text}")


def _check_done(job: VideoJob) -> None:
    if job.state != "done":
        why = f": {job.problem.detail}" if job.problem else ""
        state = "has failed" if job.state == "failed" else f"is {job.state}"
        raise ApiError("not-ready", f"this job {state}{why}")


def _skeleton_of(server: ServerState, job: VideoJob) -> Skeleton:
    """The skeleton of a job's results. Raises ApiError if the server has it no more."""
    if job.skeleton != "native":
        name = job.skeleton
        if name in server.running().skeletons:
            return server.running().skeletons[name]
        raise ApiError("unknown-skeleton", f"this server has the skeleton {name} of this job no more")
    return server.find_model(job.model).skeleton


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
        "error": None if job.problem is None else _problem_document(job.problem),
        "links": {"self": here, "events": f"{here}/events", "poses": f"{here}/poses", "video": f"{here}/video"},
    }


def _problem_document(problem: JobProblem) -> dict[str, Any]:
    kind = KINDS.get(problem.kind, KINDS["internal"])
    return {
        "type": f"/problems/{problem.kind}",
        "title": kind.title,
        "status": int(kind.status),
        "detail": problem.detail,
    }


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
