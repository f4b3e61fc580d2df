"""The server's own cameras: GET /cameras lists them; admins add, change, pause and remove them."""

from __future__ import annotations

import logging
import re
import time
from typing import Any

import orjson
from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from service.api.camera_sharing import camera_documents
from service.api.problems import ApiError, bad_parameter
from service.api.schemas import CameraList, CameraResponse, Problem
from service.api.state import ServerState
from service.api.uploads import read_body
from service.camera_hosts import CameraHosts
from service.cameras.entry import NAME, CameraEntry
from service.cameras.served import CamerasFullError, ServedCameras
from service.cameras.served_camera import ServedCamera
from service.streams.store.base import StoreAwayError

router = APIRouter()
log = logging.getLogger(__name__)

_LARGEST_MB = 0.1
_BODY = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/CameraEntry"}}}, "required": True}
_SHOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 503: {"model": Problem}}
_CHANGED: dict[int | str, dict[str, Any]] = {**_SHOWN, 403: {"model": Problem}, 507: {"model": Problem}}


@router.get(
    "/cameras", summary="The cameras that this server opens itself", response_model=CameraList, responses=_SHOWN
)
async def listing(request: Request) -> Response:
    """By name, with what each of them does. User names, passwords and queries of their sources are never shown."""
    server = ServerState.of(request)
    known = sorted(_cameras(server).cameras.items())
    documents = await camera_documents(server, [camera for _, camera in known])
    return _json({"cameras": documents, "admin": server.keys.is_admin(request.scope["state"]["client"])})


@router.get("/cameras/{name}", summary="A camera", response_model=CameraResponse, responses=_SHOWN)
async def show(request: Request, name: str) -> Response:
    """What it does, since when, and its rates over the last five seconds."""
    server = ServerState.of(request)
    return await _shown(server, find_camera(server, name))


@router.put(
    "/cameras/{name}",
    summary="Add a camera, or change one (admins)",
    response_model=CameraResponse,
    openapi_extra={"requestBody": _BODY},
    responses={
        **_CHANGED,
        201: {"model": CameraResponse},
        **{status: {"model": Problem} for status in (409, 413, 422)},
    },
)
async def put(request: Request, name: str) -> Response:
    """A name has a-z, 0-9, - and _. The server answers before it has connected; GET tells whether it could.

    Identities go on if model, skeleton, zones, lines and rules stay the same. The camera survives restarts if the
    server has a folder of data. Its host must be among `camera_hosts`.
    """
    server = ServerState.of(request)
    cameras = _cameras_of_admin(server, request)
    entry = await _read_entry(server, request)
    _check_host(server, entry)
    if not re.fullmatch(NAME, name):
        raise ApiError("bad-parameter", f"name: {name[:100]!r} is not 1 to 64 of a-z, 0-9, - and _, a letter first")
    if (known := cameras.cameras.get(name)) is not None:
        _check_not_of_file(known)
    try:
        is_new = await cameras.put(name, entry)
    except CamerasFullError as error:
        raise ApiError("camera-conflict", str(error)) from error
    except (OSError, StoreAwayError) as error:
        raise _not_kept(error) from error
    return await _shown(server, _find(cameras, name), 201 if is_new else 200)


@router.delete(
    "/cameras/{name}",
    summary="Remove a camera (admins)",
    status_code=204,
    responses={**_CHANGED, 409: {"model": Problem}},
)
async def delete(request: Request, name: str) -> Response:
    """Its source is closed when the answer comes. Those of the server's file are removed there."""
    server = ServerState.of(request)
    cameras = _cameras_of_admin(server, request)
    _check_not_of_file(_find(cameras, name))
    try:
        await cameras.delete(name)
    except KeyError:
        raise _unknown(name) from None
    except (OSError, StoreAwayError) as error:
        raise _not_kept(error) from error
    return Response(status_code=204)


@router.post(
    "/cameras/{name}/pause",
    summary="Close a camera's source (admins)",
    response_model=CameraResponse,
    responses=_CHANGED,
)
async def pause(request: Request, name: str) -> Response:
    """It stays closed until it is resumed, also over a restart if the server has a folder of data."""
    return await _pause(request, name, paused=True)


@router.post(
    "/cameras/{name}/resume", summary="Open a paused camera again (admins)", response_model=CameraResponse,
    responses=_CHANGED,
)  # fmt: skip
async def resume(request: Request, name: str) -> Response:
    """Its identities go on, as after any other time out of sight. A camera that is not paused stays as it is."""
    return await _pause(request, name, paused=False)


async def _pause(request: Request, name: str, *, paused: bool) -> Response:
    server = ServerState.of(request)
    cameras = _cameras_of_admin(server, request)
    camera = _find(cameras, name)
    try:
        await cameras.pause(name, paused=paused)
    except KeyError:
        raise _unknown(name) from None
    except (OSError, StoreAwayError) as error:
        raise _not_kept(error) from error
    return await _shown(server, camera)


async def _read_entry(server: ServerState, request: Request) -> CameraEntry:
    """Read a camera from the body. Raises ApiError."""
    settings = server.settings
    with server.memory.take(request.scope["state"]["client"], 0) as lease:
        deadline = time.monotonic() + settings.timeout_ms / 1000
        body = await read_body(request, settings, lease, deadline, copies=3, most_mb=_LARGEST_MB)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ApiError("bad-request", f"the body is not JSON: line {error.lineno}, column {error.colno}") from None
        if not isinstance(document, dict):
            raise ApiError("bad-parameter", 'the body is a JSON object, such as {"source": "rtsp://HOST:554/PATH"}')
        if isinstance(source := document.get("source"), str) and "://" not in source:  # may be a file: do not look
            raise ApiError("bad-parameter", "source: it is a URL such as rtsp://HOST:554/PATH; files and devices are "
                           "for the server's own file of cameras alone")  # fmt: skip
        try:
            return CameraEntry.model_validate(document)
        except ValidationError as error:
            raise bad_parameter(error.errors(include_url=False, include_input=False)) from None


def _check_host(server: ServerState, entry: CameraEntry) -> None:
    """Raise ApiError unless the host of a source is one that clients may name."""
    try:
        entry.address.check_host(CameraHosts.parse(server.settings.camera_hosts))
    except ValueError as error:
        raise ApiError("bad-parameter", f"source: {error}") from error


def _cameras(server: ServerState) -> ServedCameras:
    server.running()
    if server.cameras is None:
        raise ApiError("not-found", "this server has no cameras: with several workers, they take a redis_url")
    return server.cameras


def _cameras_of_admin(server: ServerState, request: Request) -> ServedCameras:
    server.keys.check_admin(request.scope["state"]["client"])
    return _cameras(server)


def find_camera(server: ServerState, name: str) -> ServedCamera:
    """Return the camera of that name. Raises ApiError if there is none."""
    return _find(_cameras(server), name)


def _find(cameras: ServedCameras, name: str) -> ServedCamera:
    if (camera := cameras.cameras.get(name)) is None:
        raise _unknown(name)
    return camera


def _unknown(name: str) -> ApiError:
    return ApiError("not-found", f"there is no camera {name[:100]!r}; GET /cameras lists them")


def _check_not_of_file(camera: ServedCamera) -> None:
    if camera.from_file:
        text = f"the camera {camera.name} is one of the server's file; edit that, and send the server SIGHUP"
        raise ApiError("camera-conflict", text)


def _not_kept(error: OSError | StoreAwayError) -> ApiError:
    if isinstance(error, StoreAwayError):
        return ApiError("overloaded", f"nothing was changed: {error}", retry_after_s=2.0)
    log.error("the cameras of the API cannot be kept: %s", error)
    return ApiError("disk-full", "this was done, but cannot be kept: the server's disk is full or cannot be written")


async def _shown(server: ServerState, camera: ServedCamera, status: int = 200) -> Response:
    (document,) = await camera_documents(server, [camera])
    return _json(document, status)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")
