"""Cameras that replicas share by Redis: who has which, what the others' cameras do, and their results and pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from service.api.schemas import CameraResponse
from service.api.state import ServerState
from service.cameras.camera_run import CameraParts
from service.cameras.document import camera_document
from service.cameras.served import ServedCameras
from service.cameras.served_camera import ServedCamera
from service.cameras.sources.spare_readers import SpareReaders
from service.process.supervisor import Supervisor
from service.streams.store.base import StoreAwayError

AtEnd = Callable[[str, Callable[[], Awaitable[object]]], None]

_MOST_SPARE = 4
"""Processes that are ready to read the cameras of a replica that ends. Each takes some 30 MB."""
_TELL_S = 1.0
"""How often a replica tells the others what its cameras do."""
_OWN_VIEW = ("name", "source", "origin", "options", "links")
"""Members of a document that every replica knows by itself."""


def share_cameras(
    state: ServerState, supervisor: Supervisor, at_end: AtEnd, replica: str, parts: CameraParts
) -> ServedCameras:
    """Return the cameras of a server whose replicas have the same Redis."""
    from service.cameras.ownership.redis import RedisOwnership  # slow to import
    from service.cameras.ownership.redis_documents import RedisDocuments
    from service.cameras.ownership.redis_entries import RedisEntries
    from service.cameras.ownership.redis_relay import RedisRelay

    url = state.settings.redis_url.get_secret_value()
    entries, documents = RedisEntries(url), RedisDocuments(url)
    spare = SpareReaders(lambda: min(_MOST_SPARE, sum(not camera.owned for camera in cameras.cameras.values())))
    parts = replace(parts, start=spare.start)
    ownership = RedisOwnership(url, replica, supervisor=supervisor, changed=state.metrics.cameras.ownership_changed)
    cameras = ServedCameras(parts, supervisor, ownership=ownership, most=state.settings.max_cameras, shared=entries)
    keeping = supervisor.keep("spare readers", spare.run)
    relay = RedisRelay(url, lambda: cameras.cameras, supervisor)
    state.camera_documents = documents
    telling = supervisor.keep("list of cameras", lambda: _tell(state, cameras))
    relay.start()

    async def close() -> None:
        telling.cancel()
        keeping.cancel()
        await asyncio.gather(relay.close(), documents.close(), entries.close())

    at_end("closing what replicas share of cameras", close)
    return cameras


async def camera_documents(state: ServerState, cameras: Iterable[ServedCamera]) -> list[dict[str, Any]]:
    """The documents of cameras, those of other replicas as they have told them."""
    served = state.cameras
    assert served is not None  # noqa: S101 - tells the type checker
    wanted = list(cameras)
    others = [camera.name for camera in wanted if not camera.owned]
    told: dict[str, dict[str, Any]] = {}
    if state.camera_documents is not None and others:
        try:
            told = await state.camera_documents.read(others)
        except StoreAwayError:
            told = {}  # the log says it already
    shown = []
    for camera in wanted:
        document = camera_document(camera, served.ownership.owner(camera.name))
        if not camera.owned and _is_camera(told.get(camera.name)):
            document = {**told[camera.name], **{name: document[name] for name in _OWN_VIEW}}
        shown.append(document)
    return shown


def _is_camera(document: object) -> bool:
    """True if a document from Redis is one of `camera_document`."""
    try:
        CameraResponse.model_validate(document, strict=True)
    except ValidationError:
        return False
    return True


async def _tell(state: ServerState, cameras: ServedCameras) -> None:
    """Tell the other replicas what the cameras of this one do."""
    assert state.camera_documents is not None  # noqa: S101 - tells the type checker
    while True:
        ours = [camera for camera in cameras.cameras.values() if camera.owned]
        if ours:
            with suppress(StoreAwayError):  # the log says it already
                await state.camera_documents.write({c.name: camera_document(c, cameras.replica) for c in ours})
        await asyncio.sleep(_TELL_S)
