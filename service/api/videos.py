"""Video jobs: POST /videos takes a video, GET and DELETE /videos/{id} show and delete the job and its results."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response, StreamingResponse

from engines.skeletons import POSETRACK_15, Skeleton, derivable
from service.api.problems import ApiError
from service.api.schemas import Problem, VideoJobResponse, VideoList, VideoQuery
from service.api.state import ServerState
from service.api.video_documents import is_job, job_document
from service.api.video_results import KEEP_ALIVE_S, converted, follow, json_lines
from service.api.video_upload import FIELD, RAW_TYPES, VideoUpload, check_head
from service.offline.jobs.job import DRAWN, VideoJob
from service.offline.jobs.video_jobs import VideoJobs
from service.quota import Quota

router = APIRouter()

_CLIENT_LEFT = 499
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{32}")
_POLL_S = 0.3
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
        jobs += [job for job in await server.shared_jobs.read(client) if is_job(job)]
        jobs.sort(key=itemgetter("created"), reverse=True)
    return _json({"videos": jobs})


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
    _hold(request, server.readers)
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(_events(server, job), headers=headers, media_type="text/event-stream")


async def _events(server: ServerState, job: VideoJob) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    last, sent = b"", -KEEP_ALIVE_S
    current: VideoJob | None = job
    while current is not None:
        data = orjson.dumps(job_document(server, current))
        if data != last:
            yield b"event: job\ndata: " + data + b"\n\n"
        elif loop.time() - sent > KEEP_ALIVE_S:
            yield b":\n\n"
        if data != last or loop.time() - sent > KEEP_ALIVE_S:
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
    _hold(request, server.readers)
    if kind == "ndjson" and job.state != "failed":
        return StreamingResponse(follow(server, job), media_type=_TYPES[kind])
    _check_done(job)
    skeleton = _skeleton_of(server, job)
    if kind == "posetrack" and not derivable(skeleton, POSETRACK_15).any():
        raise ApiError("bad-parameter", f"format: PoseTrack's has no keypoint of {skeleton.name}")
    if kind == "json":
        return StreamingResponse(json_lines(folder), media_type="application/json")
    _hold(request, server.conversions)
    return StreamingResponse(converted(kind, folder, skeleton), media_type=_TYPES.get(kind, "application/json"))


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
    _hold(request, server.readers)
    path = _videos(server).store.folder(job.id) / DRAWN
    try:
        about = await asyncio.to_thread(path.stat)
    except FileNotFoundError:  # deleted a moment ago
        raise _unknown(_videos(server), job_id) from None
    if request.scope["state"]["head"]:
        request.scope["method"] = "HEAD"  # then the file is not read
    name = f"{Path(job.name).stem or 'video'}.mp4"
    return FileResponse(
        path, media_type="video/mp4", filename=name, stat_result=about, content_disposition_type="inline"
    )


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
        raise _unknown(videos, job_id)
    return job


def _hold(request: Request, quota: Quota) -> None:
    """Hold one of a quota for the client until the response has been sent. Raises QuotaExceededError."""
    state = request.scope["state"]
    state["resources"].enter_context(quota.take(state["client"]))


def _unknown(videos: VideoJobs, job_id: str) -> ApiError:
    text = "jobs are deleted some time after they ended"
    if _ID.fullmatch(job_id) and not job_id.startswith(f"{videos.store.replica}-"):
        text = (
            "its ID names another replica: a load balancer has to send requests for it there, as docker/haproxy.cfg "
            "does, and that replica may be away"
        )
    return ApiError("not-found", f"there is no video job {job_id[:100]!r} here; {text}")


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


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")
