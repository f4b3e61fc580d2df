"""What cameras do, told by their owners to the other replicas: `posewire:camera:NAME` is JSON that soon expires."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from redis.asyncio import Redis

from service.streams.store.redis import converted_errors

_PREFIX = "posewire:camera:"
_TIMEOUT_S = 1.0
_EXPIRES_MS = 5000
_MOST_BYTES = 100_000
"""Of a document that is read; a longer one is damaged."""


class RedisDocuments:
    """Belongs to one event loop. The methods raise StoreAwayError."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)

    async def write(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the documents of cameras. They expire if this is not done again."""
        async with converted_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for name, document in documents.items():
                pipeline.set(_PREFIX + name, orjson.dumps(document), px=_EXPIRES_MS)
            await pipeline.execute()

    async def read(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the documents that there are, by name. They are JSON objects, and may be anything else than that."""
        wanted = list(names)
        async with converted_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for name in wanted:
                pipeline.getrange(_PREFIX + name, 0, _MOST_BYTES)
            found = await pipeline.execute(raise_on_error=False)
        documents = {}
        for name, text in zip(wanted, found, strict=True):
            try:
                document = orjson.loads(text) if isinstance(text, bytes) and text else None
            except orjson.JSONDecodeError:
                continue
            if isinstance(document, dict):
                documents[name] = document
        return documents

    async def close(self) -> None:
        await self._redis.aclose()
