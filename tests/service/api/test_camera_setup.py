"""What sinks are told of cameras."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from service.api.camera_setup import note_cameras
from service.api.state import ServerState
from service.cameras.camera_run import CameraParts
from service.cameras.entry import CameraEntry
from service.cameras.served_camera import ServedCamera
from service.process.supervisor import Supervisor


def told_of(**members: object) -> dict[str, Any]:
    """What sinks are told of a camera that another replica has."""
    told: list[dict[str, Any]] = []

    async def story() -> None:
        entry = CameraEntry.model_validate({"source": "rtsp://10.0.0.5/live", **members})
        camera = ServedCamera("door", entry, cast(CameraParts, None), Supervisor(), from_file=True)
        assert not camera.owned
        events = SimpleNamespace(active=True, note=told.append)
        state = SimpleNamespace(cameras=SimpleNamespace(cameras={"door": camera}), events=events)
        note_cameras(cast(ServerState, state))

    asyncio.run(story())
    [states] = told
    return states


def test_a_camera_that_another_replica_has_is_elsewhere_and_not_gone() -> None:
    """What is not named is gone for good: Home Assistant would lose the camera whenever it changes hands."""
    assert told_of() == {"cameras/door": {"state": "elsewhere", "people": 0, "occupancy": {}}}


def test_zones_are_named_while_a_camera_is_not_live() -> None:
    """Home Assistant's sensors of zones would come and go with the camera."""
    zones = [{"name": "desk", "polygon": [(0, 0), (1, 0), (1, 1)]}]
    assert told_of(zones=zones)["cameras/door"]["occupancy"] == {}
    assert told_of(zones=zones, rules={"occupancy": True})["cameras/door"]["occupancy"] == {"desk": 0}
