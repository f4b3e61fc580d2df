"""The cameras that the API has added, and which cameras are paused, in Redis: all replicas have the same.

The hash `posewire:camera-entries` has a JSON object for each camera, {"entry": OBJECT or null, "paused": BOOL}, and in
the field `#` a version, which every change raises. Replicas learn of it with their leases. The entries contain the
sources as they were put, with passwords: whoever can read this Redis can read them.

If Redis has lost all, replicas put back what they know. Nothing in it is trusted: what is damaged is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from service.cameras.entry import CameraEntry, CameraName
from service.cameras.ownership.redis_lease_thread import ENTRIES_KEY
from service.streams.store.redis import converted_errors

log = logging.getLogger(__name__)

_VERSION = "#"
_OF_FILES = ("file", "device")
"""Kinds of sources that the API does not take, and that only the server's own file may name."""
_RESTORE = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
"""
_TIMEOUT_S = 1.0


class _Shared(BaseModel):
    """What Redis has of one camera."""

    model_config = ConfigDict(extra="forbid")

    entry: CameraEntry | None = None
    paused: bool = False


_NAMED: TypeAdapter[tuple[CameraName, _Shared]] = TypeAdapter(tuple[CameraName, _Shared])


@dataclass(frozen=True, slots=True)
class SharedEntries:
    """entries: of the cameras that the API has added. paused: names of cameras, also of those of the file."""

    version: int = 0
    entries: Mapping[str, CameraEntry] = field(default_factory=dict)
    paused: frozenset[str] = frozenset()


class RedisEntries:
    """Belongs to one event loop. The methods raise StoreAwayError."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._known: dict[bytes, bytes] = {}

    async def load(self) -> SharedEntries:
        """Read all. If nothing is there, because Redis was started again, what was there before is put back."""
        async with converted_errors():
            if await self._redis.type(ENTRIES_KEY) not in (b"hash", b"none"):
                await self._redis.unlink(ENTRIES_KEY)
            async with self._redis.pipeline() as pipeline:
                self._restore(pipeline)
                pipeline.hgetall(ENTRIES_KEY)
                found: dict[bytes, bytes] = (await pipeline.execute())[-1]
        self._known = found
        entries, paused = {}, set()
        for field_name, value in found.items():
            if (name := field_name.decode(errors="replace")) == _VERSION:
                continue
            try:
                camera = _NAMED.validate_python((name, orjson.loads(value)))[1]
            except ValueError as error:
                log.error("the camera %s in Redis is left out: %s", name[:64], _explain(error))
                continue
            if camera.entry is not None and camera.entry.address.kind in _OF_FILES:
                log.error("the camera %s in Redis is left out: its source is no URL", name)
            elif camera.entry is not None:
                entries[name] = camera.entry
            if camera.paused:
                paused.add(name)
        version = found.get(_VERSION.encode(), b"")
        return SharedEntries(int(version) if version.isdigit() else 0, entries, frozenset(paused))

    async def change(self, name: str, entry: CameraEntry | None, *, paused: bool) -> None:
        """entry: of the camera, None if the API has not added it. Without an entry, and not paused, it is forgotten."""
        async with converted_errors(), self._redis.pipeline() as pipeline:
            self._restore(pipeline)
            if entry is None and not paused:
                pipeline.hdel(ENTRIES_KEY, name)
            else:
                document = {"entry": entry and entry.document(secret=True), "paused": paused}
                pipeline.hset(ENTRIES_KEY, name, orjson.dumps(document))
            pipeline.hincrby(ENTRIES_KEY, _VERSION, 1)
            await pipeline.execute()

    def _restore(self, pipeline: Pipeline) -> None:
        if self._known:
            pipeline.eval(_RESTORE, 1, ENTRIES_KEY, *(part for pair in self._known.items() for part in pair))

    async def close(self) -> None:
        await self._redis.aclose()


def _explain(error: ValueError) -> str:
    """Say what is wrong, without the values: they may be secret."""
    if not isinstance(error, ValidationError):
        return "it is not JSON"
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
