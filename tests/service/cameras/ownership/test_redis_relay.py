"""What a camera's owner tells other replicas by Redis."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import Image
from redis.asyncio import Redis

from service.cameras.entry import CameraEntry
from service.cameras.feed import ResultFeed
from service.cameras.ownership.redis_relay import RedisRelay
from service.cameras.ownership.result_codec import unpack_result
from service.process.supervisor import Supervisor
from tests.redis_servers import RedisProcess
from tests.service.cameras.test_pictures import a_result, noise, somebody


@dataclass
class OwnCamera:
    """A camera of this replica."""

    entry: CameraEntry
    feed: ResultFeed = field(default_factory=ResultFeed)
    owned: bool = True


def entry(blur: str | None) -> CameraEntry:
    return CameraEntry.model_validate({"source": "rtsp://10.0.0.5/live", "blur": blur})


async def published(camera: OwnCamera, redis: RedisProcess) -> bytes:
    """The picture that a replica gets which has subscribed to the camera's."""
    supervisor = Supervisor()
    relay = RedisRelay(redis.url, lambda: {"hall": camera}, supervisor)
    base = Redis.from_url(redis.url)
    async with base.pubsub(ignore_subscribe_messages=True) as subscription:
        await subscription.subscribe("posewire:camera:hall:pictures")
        relay.start()
        message = None
        while message is None:
            camera.feed.put(a_result(0, everybody=somebody(x=160)))
            message = await subscription.get_message(timeout=0.2)
    await relay.close()
    await supervisor.close()
    await base.aclose()
    _, picture = unpack_result(message["data"])
    return picture


def change(picture: bytes, rows: slice, columns: slice) -> float:
    """How far a part of a picture is from that of the camera, levels."""
    pixels = np.asarray(Image.open(BytesIO(picture))).astype(float)
    return float(np.abs(pixels - noise(0))[rows, columns].mean())


def test_pictures_without_faces_leave_the_owner_without_faces(redis: RedisProcess) -> None:
    head, elsewhere = (slice(50, 70), slice(150, 170)), (slice(180, 230), slice(10, 60))
    plain = asyncio.run(published(OwnCamera(entry(None)), redis))
    blurred = asyncio.run(published(OwnCamera(entry("faces")), redis))
    assert change(blurred, *head) > 1.3 * change(plain, *head)
    assert abs(change(blurred, *elsewhere) - change(plain, *elsewhere)) < 1
