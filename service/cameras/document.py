"""A camera as the API shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from service.cameras.served_camera import ServedCamera


def camera_document(camera: ServedCamera, replica: str) -> dict[str, Any]:
    """What a camera is and does, without anything that opens its source. replica: the server that has it."""
    run, tally, state = camera.run, camera.run.tally, camera.state
    run.count()
    is_live = state.doing == "live"
    newest, info = camera.feed.newest, run.camera.info
    size = (None, None) if info is None else (info.width, info.height)
    if newest is not None:
        size = newest.processed.width, newest.processed.height
    path = f"/cameras/{camera.name}"
    return {
        "name": camera.name,
        "source": camera.entry.address.name,
        "state": state.doing,
        "since": datetime.fromtimestamp(state.since, UTC).isoformat(timespec="milliseconds"),
        "reason": state.reason,
        "origin": "file" if camera.from_file else "api",
        "replica": replica,
        "fps_in": round(tally.fps_in, 2) if is_live else 0.0,
        "fps_done": round(tally.fps_done, 2) if is_live else 0.0,
        "age_ms": round(1e3 * tally.age, 1) if is_live and tally.age is not None else None,
        "dropped": tally.dropped,
        "decoded": tally.decoded,
        "failed": tally.failed,
        "people": run.people if is_live and newest is not None else None,
        "width": size[0],
        "height": size[1],
        "codec": None if info is None else info.codec,
        "options": camera.entry.document(),
        "links": {
            "self": path,
            "results": f"{path}/results",
            "live": f"{path}/live.mjpg",
            "picture": f"{path}/picture.jpg",
        },
    }
