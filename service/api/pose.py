"""POST /pose: finds the people in images."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from engines.poses import Poses
from engines.skeletons import Skeleton
from service.api.openapi import POSE_BODIES
from service.api.problems import ApiError, bad_parameter, problem_of
from service.api.schemas import Answer, PoseQuery, Problem, ProblemEntry
from service.api.state import ServerState
from service.api.uploads import Upload, read_upload
from service.batching import Priority
from service.formats.coco import coco_results
from service.formats.openpose import fits_openpose, openpose_document
from service.formats.posewire import people_list
from service.inference.model_registry import ServedModel
from service.inference.pipeline import Estimate, estimate_all
from service.inference.stage import InferenceOptions
from service.media.faces import BLURRED_SCORE, UnseenHeadsError, check_heads
from service.quota import Lease

router = APIRouter()
Result = TypeVar("Result")

_WATCH_AFTER_S = 0.02
"""Seconds after which the server begins to watch whether the client has disconnected; most responses are faster."""
_LONG_QUERY = 256
"""Bytes of a query; longer ones are not cached."""
_MOST_PARAMETERS = 32
_PICTURES = ("image/jpeg", "image/png")


@router.post(
    "/pose",
    summary="Everybody in an image, or in several",
    response_class=Response,
    openapi_extra={"requestBody": {"required": True, "content": POSE_BODIES}},
    responses={
        200: {"model": Answer | list[Answer | ProblemEntry], "content": {t: {} for t in _PICTURES}},
        **{status: {"model": Problem} for status in (404, 413, 415, 422, 503, 504)},
    },
)
async def pose(request: Request, _: Annotated[PoseQuery, Query()]) -> Response:
    """The body is an image, several as multipart fields `image`, or `{"image": BASE64}`, `{"images": [...]}` in JSON.

    Several images give a list in their order, an entry with `error` in place of one that failed. With
    `Accept: image/jpeg` or `image/png` the answer is the picture with the skeletons drawn on it, as `boxes`, `ids`,
    `labels`, `colours`, `blur` and `background` say.
    """
    return await answer(ServerState.of(request), request)


async def answer(server: ServerState, request: Request) -> Response:
    """Answer POST /pose without FastAPI. Raises ApiError and the errors that `problem_of` knows.

    The client's quotas are held until the response has been sent, see `RequestMiddleware`.
    """
    arrived = time.monotonic()
    query = read_query(request.scope["query_string"])
    served = server.find_model(query.model)
    skeleton = server.find_skeleton(served, query.skeleton)
    if query.format == "openpose" and not fits_openpose(skeleton):
        raise ApiError("bad-parameter", f"format: openpose has no keypoint of {skeleton.name}")
    picture = _accepted_picture(request.headers.get("accept", ""))
    _check_drawing(query, picture, served.skeleton)
    deadline = arrived + (query.timeout_ms or server.settings.timeout_ms) / 1000
    client, resources = request.scope["state"]["client"], request.scope["state"]["resources"]
    pixels = resources.enter_context(server.memory.take(client, 0))
    options = _options_of(client, query, server, deadline, pixels, blur=bool(query.blur and picture))
    if server.requests.held:
        served.pipeline.test(options)  # before the body is read
    server.requests.test(client)
    body = resources.enter_context(server.memory.take(client, 0))
    upload = await read_upload(server, request, body, deadline)
    resources.enter_context(server.requests.take(client))
    try:
        if picture and upload.several:
            raise ApiError("bad-parameter", f"{picture} is drawn of one image only; send one, or accept JSON")
        admission = served.pipeline.admit(options, len(upload.images), data=upload.images, draw=bool(picture))
        with admission as admitted:
            work = _answer(server, served, skeleton, query, admitted, upload, picture, arrived)
            return await _cancel_on_disconnect(request, work)
    finally:
        server.answered += 1


def read_query(query: bytes) -> PoseQuery:
    """Parse a URL's query. If a parameter is given twice, the last one counts. Raises ApiError for a bad parameter."""
    return _read_query(query) if len(query) > _LONG_QUERY else _read_query_cached(query)


def _read_query(query: bytes) -> PoseQuery:
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError as error:
        raise ApiError("bad-parameter", f"the URL has more than {_MOST_PARAMETERS} parameters") from error
    try:
        return PoseQuery.model_validate(dict(pairs))
    except ValidationError as error:
        raise bad_parameter(error.errors()) from error


_read_query_cached = lru_cache(256)(_read_query)
"""Cached, because clients repeat the same few queries."""


def _options_of(
    client: str, query: PoseQuery, server: ServerState, deadline: float, lease: Lease, *, blur: bool
) -> InferenceOptions:
    """blur: faces of people who are not wanted will be blurred, so these must be found, too."""
    settings = server.settings
    most_people = settings.max_people if blur or query.max_people is None else query.max_people
    return InferenceOptions(
        client=client,
        priority=Priority.BULK if query.priority == "bulk" else Priority.STILL,
        deadline=deadline,
        max_people=min(most_people, settings.max_people),
        min_score=min(query.min_score, BLURRED_SCORE) if blur else query.min_score,
        lease=lease,
    )


async def _answer(
    server: ServerState,
    served: ServedModel,
    skeleton: Skeleton,
    query: PoseQuery,
    options: InferenceOptions,
    upload: Upload,
    picture: str,
    arrived: float,
) -> Response:
    if not upload.several:
        try:
            estimate = await served.pipeline.image(upload.images[0], options, whole=bool(picture))
        except Exception as error:
            raise _problem(server, error) from error
        if not picture:
            return _json(_entry(server, served, skeleton, query, estimate, 0, arrived))
        everybody = estimate.poses
        shown = everybody.select(everybody.scores >= query.min_score).select(slice(query.max_people))
        wanted = replace(estimate, poses=shown.as_skeleton(skeleton))
        blurred = everybody if query.blur else None
        content, drawing = await served.pipeline.draw(wanted, picture, options, look=query.look, blurred=blurred)
        seconds = estimate.timing.parts()
        seconds["queue"] += drawing.queue
        _count(server, {**seconds, "serialise": drawing.prepare}, shown)
        return Response(content, media_type=picture)
    outcomes = await estimate_all(served.pipeline, upload.images, options)
    entries = [
        _entry(server, served, skeleton, query, outcome, index, arrived)
        if isinstance(outcome, Estimate)
        else orjson.dumps({"error": _problem(server, outcome).document()})
        for index, outcome in enumerate(outcomes)
    ]
    return _json(b"[" + b",".join(entries) + b"]")


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _entry(
    server: ServerState,
    served: ServedModel,
    skeleton: Skeleton,
    query: PoseQuery,
    estimate: Estimate,
    index: int,
    arrived: float,
) -> bytes:
    """Encode the result for one image. The people are encoded first, so that the timing can include it."""
    started = time.perf_counter()
    poses = estimate.poses.as_skeleton(skeleton)
    if query.format == "coco":
        content = orjson.dumps(coco_results(poses, image_id=index), option=orjson.OPT_SERIALIZE_NUMPY)
    elif query.format == "openpose":
        content = orjson.dumps(openpose_document(poses), option=orjson.OPT_SERIALIZE_NUMPY)
    else:
        content = orjson.dumps(people_list(poses), option=orjson.OPT_SERIALIZE_NUMPY)
    seconds = {**estimate.timing.parts(), "serialise": time.perf_counter() - started}
    _count(server, seconds, poses)
    if query.format != "json":
        return content
    timing = {**seconds, "total": time.monotonic() - arrived}
    document: dict[str, Any] = {
        "width": estimate.width,
        "height": estimate.height,
        "model": served.model.name,
        "skeleton": poses.skeleton.name,
        "people": orjson.Fragment(content),
        "timing_ms": {name: round(1e3 * value, 3) for name, value in timing.items()},
    }
    return orjson.dumps(document)


def _count(server: ServerState, seconds: Mapping[str, float], poses: Poses) -> None:
    """Count an image after the response has been handed to the transport, when this task first waits for anything."""
    asyncio.get_running_loop().call_soon(server.metrics.estimated, seconds, len(poses))


def _problem(server: ServerState, error: BaseException) -> ApiError:
    """Return the problem document for an image that failed. Re-raises an error that is a defect of the server."""
    problem = problem_of(error)
    if problem is None:
        raise error
    if problem.kind in ("undecodable-image", "too-large", "not-an-image"):
        server.metrics.decode_failures.labels(problem.kind).inc()
    return problem


def _check_drawing(query: PoseQuery, picture: str, skeleton: Skeleton) -> None:
    """Raise ApiError for parameters of pictures that cannot be followed. skeleton: of the model."""
    if query.background == "none" and picture == "image/jpeg":
        raise ApiError("bad-parameter", "background: only a PNG can be transparent; send Accept: image/png")
    if query.blur and picture:
        try:
            check_heads(skeleton)
        except UnseenHeadsError as error:
            raise ApiError("bad-parameter", str(error)) from error


def _accepted_picture(accept: str) -> str:
    """Return the image type that the client accepts in place of JSON, or an empty string."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return next((t for t in named if t in _PICTURES), "") if "application/json" not in named else ""


async def _cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Await `work`. If the client disconnects first, cancel it, which saves its inference, and raise
    ClientDisconnect. Disconnects are noticed only after `_WATCH_AFTER_S`.
    """
    waiting = asyncio.current_task()
    assert waiting is not None  # noqa: S101 - it runs in a task
    left = False
    watcher: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        waiting.cancel()

    def start_watching() -> None:
        nonlocal watcher
        watcher = asyncio.create_task(watch())

    timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, start_watching)
    try:
        return await work
    except asyncio.CancelledError:
        if left:  # the watcher cancelled it
            waiting.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()
