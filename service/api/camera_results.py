"""WS /cameras/NAME/results: the results of a camera, for any number of watchers. GET /docs/stream describes it."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.websockets import WebSocket

from engines.skeletons import Skeleton
from service.api.cameras import find_camera
from service.api.hello import WatchMessage
from service.api.problems import ApiError
from service.api.socket_channel import SocketChannel, admit, choose_encoding, receive_hello, refusing, serve_socket
from service.api.state import ServerState
from service.cameras.result_watcher import ResultWatcher
from service.cameras.served_camera import ServedCamera
from service.inference.model_registry import ServedModel

router = APIRouter()


@router.get("/cameras/{name}/results", include_in_schema=False)
def no_websocket() -> None:
    """Answer plain HTTP requests, also those of a proxy that drops the upgrade."""
    raise ApiError("bad-request", "this is a websocket, and the request asks for none; see GET /docs/stream")


@router.websocket("/cameras/{name}/results")
async def results(socket: WebSocket, name: str) -> None:
    """Serve one watcher, from its handshake to its close code."""
    server = ServerState.of(socket)
    await serve_socket(socket, lambda channel: _serve(server, socket, channel, name))


async def _serve(server: ServerState, socket: WebSocket, channel: SocketChannel, name: str) -> None:
    message = WatchMessage.read(await receive_hello(server, socket, channel))
    with refusing():
        client = admit(server, socket, message.key)
        camera = find_camera(server, name)
        served = server.find_model(camera.entry.model)
        skeleton = server.find_skeleton(served, camera.entry.skeleton)
    with server.memory.take(client, 0) as memory:
        watcher = ResultWatcher(
            channel,
            camera.feed,
            camera.entry.hello(),
            choose_encoding(channel, message.format),
            message.window,
            1 / message.fps if message.fps else 0.0,
            server.settings.idle_seconds,
            memory,
            client,
            lambda size: server.watchers.pause(client, size),
        )
        with refusing(), server.watchers.hold(watcher):
            await watcher.run(_welcome(camera, served, skeleton, message))


def _welcome(camera: ServedCamera, served: ServedModel, skeleton: Skeleton, message: WatchMessage) -> dict[str, Any]:
    entry = camera.entry
    return {
        "camera": camera.name,
        "session": camera.run.session,
        "model": served.model.name,
        "skeleton": skeleton.name,
        "keypoints": skeleton.keypoints,
        "zones": [zone.model_dump(exclude_none=True) for zone in entry.zones],
        "lines": [line.model_dump(exclude_none=True) for line in entry.lines],
        "window": message.window,
    }
