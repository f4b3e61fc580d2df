"""Starts the cameras of a server and the sinks of its events, and reloads their file at SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import socket
from typing import Any

from engines.skeletons import Skeleton
from service.api.camera_sharing import AtEnd, share_cameras
from service.api.problems import ApiError
from service.api.state import ServerState
from service.cameras.camera_file import CameraFile, CameraFileError
from service.cameras.camera_run import CameraParts, CannotServeError
from service.cameras.feed import CameraResult
from service.cameras.kept_cameras import KeptCameras
from service.cameras.ownership.base import LocalOwnership
from service.cameras.served import CamerasFullError, ServedCameras
from service.cameras.served_camera import ServedCamera
from service.cameras.state_files import StateFiles
from service.events.frame_events import EventSource
from service.inference.model_registry import ServedModel
from service.process.supervisor import Supervisor
from service.streams.store.base import Store
from service.streams.store.memory import MemoryStore

log = logging.getLogger(__name__)


async def read_camera_file(state: ServerState) -> CameraFile | None:
    """Read the file of cameras and sinks; None if the settings name none. Raises CameraFileError."""
    settings = state.settings
    if settings.cameras is None:
        return None
    return await asyncio.to_thread(CameraFile.read, settings.cameras, settings.max_cameras)


async def start_cameras(state: ServerState, file: CameraFile | None, supervisor: Supervisor, at_end: AtEnd) -> None:
    """Start the cameras of the file, and those that the API has added. at_end: registers a step of the shutdown.

    Several workers without Redis have no cameras, as each of them would open all.
    """
    settings = state.settings
    if settings.workers > 1 and not state.streams.store.shared:
        return
    store: Store = state.streams.store
    if not store.shared:
        folder = None if settings.data is None else settings.data / "cameras" / "states"
        store = MemoryStore() if folder is None else StateFiles(folder, supervisor=supervisor)
        at_end("storing the states of cameras", store.close)
        await store.start(lambda _session, _generation: None)
    replica = f"{re.sub('[^A-Za-z0-9.-]', '-', socket.gethostname())}-{secrets.token_hex(3)}"
    if store.shared:
        cameras = share_cameras(state, supervisor, at_end, replica, _parts(state, store))
    else:
        kept = None if settings.data is None else KeptCameras(settings.data / "cameras" / "cameras.json")
        ownership = LocalOwnership(replica, supervisor)
        cameras = ServedCameras(
            _parts(state, store), supervisor, ownership=ownership, most=settings.max_cameras, kept=kept
        )
    at_end("ending cameras", cameras.close)
    await cameras.start({} if file is None else file.cameras)
    state.cameras = cameras


async def reload_cameras(state: ServerState) -> None:
    """Read the file again. If it cannot be used, the cameras stay as they were."""
    try:
        of_file = await read_camera_file(state)
        if of_file is None:
            return
        changes = "" if state.cameras is None else await state.cameras.reload(of_file.cameras)
        await state.events.reload(of_file.event_settings)
    except (CameraFileError, CamerasFullError) as error:
        log.error("the cameras and sinks stay as they were: %s", error)
    else:
        log.info("the cameras and sinks of %s are served now: %s", state.settings.cameras, changes or "no cameras")


def note_cameras(state: ServerState) -> None:
    """Let sinks that tell of states know how all cameras are, also those that other replicas have."""
    if state.cameras is not None and state.events.active:
        cameras = state.cameras.cameras.values()
        state.events.note({f"cameras/{camera.name}": _state_of(camera) for camera in cameras})


def _state_of(camera: ServedCamera) -> dict[str, Any]:
    is_live, hello = camera.state.doing == "live", camera.entry.hello()
    newest = camera.feed.newest if is_live else None
    bodies = None if newest is None else newest.processed.bodies
    nobody = {zone.name: 0 for zone in hello.zones} if hello.rules.occupancy else {}
    return {
        "state": camera.state.doing if camera.owned else "elsewhere",
        "people": camera.run.people if is_live else 0,
        "occupancy": nobody if bodies is None or bodies.occupancy is None else bodies.occupancy,
    }


def _parts(state: ServerState, store: Store) -> CameraParts:
    def find(model: str | None, skeleton: str) -> tuple[ServedModel, Skeleton]:
        try:
            served = state.find_model(model)
            return served, state.find_skeleton(served, skeleton)
        except ApiError as error:
            raise CannotServeError(error.detail) from error

    async def publish(camera: str, session: str, result: CameraResult) -> None:
        entry = state.cameras.cameras[camera].entry if state.cameras and camera in state.cameras.cameras else None
        picture = f"/cameras/{camera}/picture.jpg" if entry is not None and entry.pictures else None
        if state.cameras is not None and not state.cameras.ownership.certain:
            # Another replica may have the camera, too: its tracker may give the same id and number to somebody else.
            session = f"{session}.{state.cameras.ownership.replica}"
        source = EventSource(f"cameras/{camera}", session, picture=picture)
        await source.publisher(state.events)(result.processed)

    settings = state.settings
    return CameraParts(
        find,
        state.tracking_workers,
        state.tracking,
        state.streams.limiter,
        store,
        state.memory,
        state.metrics.cameras,
        frame_seconds=settings.timeout_ms / 1000,
        max_people=settings.max_people,
        checkpoint_seconds=settings.checkpoint_ms / 1000,
        hosts=settings.camera_hosts,
        publish=publish,
    )
