"""What a camera's owner tells other replicas by Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from redis.asyncio import Redis

from service.cameras.entry import CameraEntry
from service.cameras.feed import ResultFeed
from service.cameras.ownership.redis_relay import RedisRelay, RelayedCamera
from service.cameras.ownership.result_codec import unpack_result
from service.process.supervisor import Supervisor
from tests.redis_servers import RedisProcess
from tests.service.cameras.test_pictures import a_result, noise, somebody
from tests.waiting import until


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


def test_results_are_passed_on_only_while_somebody_watches_and_damaged_ones_are_left_out(
    redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = OwnCamera(entry(None)), OwnCamera(entry(None), owned=False)

    async def subscribers(base: Redis) -> int:
        [(_, number)] = await base.pubsub_numsub("posewire:camera:hall:results")
        return int(number)

    async def story() -> None:
        supervisor, base = Supervisor(), Redis.from_url(redis.url)
        sides: list[Mapping[str, RelayedCamera]] = [{"hall": ours}, {"hall": theirs}]
        relays = [RedisRelay(redis.url, lambda side=side: side, supervisor) for side in sides]  # type: ignore[misc]
        for relay in relays:
            relay.start()
        for number in range(10):
            ours.feed.put(a_result(number))
        assert await subscribers(base) == 0
        with theirs.feed.listening(lambda: None):
            for number in range(10, 1000):
                ours.feed.put(a_result(number, 12.5))
                await asyncio.sleep(0.05)
                if theirs.feed.newest is not None:
                    break
            assert theirs.feed.newest is not None
            assert (theirs.feed.newest.number >= 10, theirs.feed.newest.time) == (True, 12.5)
            assert theirs.feed.newest.pixels.size == 0  # nobody wants pictures
            await base.publish("posewire:camera:hall:results", b"no result")
            await until(lambda: "a result of the camera hall from another replica is left out" in caplog.text)
            number += 1
            ours.feed.put(a_result(number))
            assert (await theirs.feed.after(number - 1)).number == number
        for _ in range(600):
            if not await subscribers(base):
                break
            await asyncio.sleep(0.05)
        assert await subscribers(base) == 0
        await asyncio.gather(*(relay.close() for relay in relays))
        await supervisor.close()
        await base.aclose()

    asyncio.run(story())
