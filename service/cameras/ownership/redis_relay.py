"""Passes results and pictures from a camera's owner to replicas where somebody watches it, by publish and subscribe.

A replica subscribes to a camera that is not its own for as long as it has watchers here, and puts what comes into the
feed that the watchers have. The owner asks Redis who subscribes, and publishes only then. A camera has two channels:
`posewire:camera:NAME:results`, and `posewire:camera:NAME:pictures`, where each result comes with its frame as JPEG,
without faces if the camera's entry says so.
Redis passes messages on and stores none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from service.cameras.entry import CameraEntry
from service.cameras.feed import ResultFeed
from service.cameras.ownership.result_codec import ResultError, pack_result, unpack_result
from service.cameras.pictures import PictureVariant, render
from service.media.decode import decode
from service.media.image_files import ImageError, ImageLimits
from service.process.supervisor import Supervisor
from service.streams.store.base import StoreAwayError
from service.streams.store.redis import converted_errors

log = logging.getLogger(__name__)

_PREFIX = "posewire:camera:"
_RESULTS, _PICTURES = "results", "pictures"
_TIMEOUT_S = 1.0
_LOOK_S = 0.25
"""How often an owner asks who subscribes, and a replica looks who watches."""
_PAUSE_S = 1.0
"""Pause after Redis could not be reached."""
_PICTURE_S = 1 / 15
"""Seconds between two pictures, at least."""
_QUALITY = 85
_LIMITS = ImageLimits(16_000_000, 50_000_000)


class RelayedCamera(Protocol):
    """A camera of all replicas."""

    @property
    def entry(self) -> CameraEntry:
        """What is known of it. A change comes with another feed."""

    @property
    def feed(self) -> ResultFeed:
        """Its results, here."""

    @property
    def owned(self) -> bool:
        """It is served here."""


class RedisRelay:
    """Belongs to one event loop. cameras: all there are, by name."""

    def __init__(self, url: str, cameras: Callable[[], Mapping[str, RelayedCamera]], supervisor: Supervisor) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._cameras = cameras
        self._supervisor = supervisor
        self._publishing: dict[str, tuple[asyncio.Task[None], ResultFeed]] = {}  # by channel
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            self._supervisor.keep("results for other replicas", self._serve),
            self._supervisor.keep("results of other replicas", self._receive),
        ]

    async def close(self) -> None:
        tasks = [*self._tasks, *(task for task, _ in self._publishing.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._redis.aclose()

    async def _serve(self) -> None:
        """Publish what others have subscribed to."""
        while True:
            ours = {_PREFIX + name: camera for name, camera in self._cameras().items() if camera.owned}
            channels = [f"{prefix}:{kind}" for prefix in ours for kind in (_RESULTS, _PICTURES)]
            wanted: dict[str, RelayedCamera] = {}
            try:
                if channels:
                    async with converted_errors():
                        counts = await self._redis.pubsub_numsub(*channels)
                    asked = [name if isinstance(name, str) else name.decode() for name, number in counts if number]
                    wanted = {channel: ours[channel.rpartition(":")[0]] for channel in asked}
            except StoreAwayError:
                await asyncio.sleep(_PAUSE_S)  # others log it
            for channel, (task, feed) in list(self._publishing.items()):
                if task.done() or channel not in wanted or wanted[channel].feed is not feed:
                    task.cancel()
                    del self._publishing[channel]
            for channel in wanted.keys() - self._publishing.keys():
                task = self._supervisor.once(f"publish {channel}", self._publish(channel, wanted[channel]))
                self._publishing[channel] = task, wanted[channel].feed
            await asyncio.sleep(_LOOK_S)

    async def _publish(self, channel: str, camera: RelayedCamera) -> None:
        """Publish the results of a camera until nobody has subscribed any more."""
        number, feed, hello = -1, camera.feed, camera.entry.hello()
        plain = PictureVariant(drawn=False, width=0, quality=_QUALITY, blurred=camera.entry.blur is not None)
        while True:
            result = await feed.after(number)
            number, picture = result.number, b""
            if channel.endswith(_PICTURES):
                faces = feed.faces() if plain.blurred else ()
                picture = await asyncio.to_thread(render, result, hello, faces, plain)
            try:
                async with converted_errors():
                    if not await self._redis.publish(channel, pack_result(result, picture)):
                        return
            except StoreAwayError:
                return
            await asyncio.sleep(_PICTURE_S if picture else 0)

    async def _receive(self) -> None:
        """Fill the feeds of the cameras of other replicas that somebody watches here."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    await self._listen(subscription)
            except StoreAwayError:
                await asyncio.sleep(_PAUSE_S)

    async def _listen(self, subscription: PubSub) -> None:
        loop = asyncio.get_running_loop()
        subscribed: set[str] = set()
        looked = -_LOOK_S
        while True:
            if loop.time() - looked >= _LOOK_S:
                looked, wanted = loop.time(), self._watched()
                async with converted_errors():
                    if gone := subscribed - wanted:
                        await subscription.unsubscribe(*gone)
                    if new := wanted - subscribed:
                        await subscription.subscribe(*new)
                subscribed = wanted
            if not subscribed:
                await asyncio.sleep(_LOOK_S)
                continue
            async with converted_errors():
                message = await subscription.get_message(timeout=_LOOK_S)
            if message is not None:
                await self._take(message["channel"].decode(), message["data"])

    def _watched(self) -> set[str]:
        """The channels of the cameras that somebody watches here and another replica serves."""
        watched = set()
        for name, camera in self._cameras().items():
            if not camera.owned and (kind := camera.feed.watched):
                watched.add(f"{_PREFIX}{name}:{kind}")
        return watched

    async def _take(self, channel: str, data: bytes) -> None:
        name = channel.removeprefix(_PREFIX).rpartition(":")[0]
        try:
            result, picture = unpack_result(data)
            if picture:
                image = await asyncio.to_thread(decode, picture, _LIMITS)
                result = replace(result, pixels=image.pixels)
        except (ResultError, ImageError) as error:
            log.error("a result of the camera %s from another replica is left out: %s", name, error)
            return
        camera = self._cameras().get(name)
        if camera is not None and not camera.owned:
            camera.feed.put(result)
