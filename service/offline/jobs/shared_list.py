"""The list of all replicas' video jobs, in Redis: each replica writes its own, and reads those of the others.

`posewire:videos` is a set of the replicas' names, and `posewire:videos:NAME` has the jobs of one as JSON: a list for
each client. A list expires soon after its replica has gone. Redis is not needed to work on a job, and nothing in it is
trusted: who reads a list checks it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson
from redis.asyncio import Redis

from service.redis_errors import ERRORS, reason

log = logging.getLogger(__name__)

_KEY = "posewire:videos"
_TIMEOUT_S = 1.0
_EXPIRES_S = 30
_MOST_REPLICAS, _MOST_BYTES = 64, 1_000_000
"""Of lists that are read; longer ones are ignored."""

Lists = Mapping[str, Sequence[Mapping[str, Any]]]
"""The documents of jobs, by client."""


class SharedJobs:
    """Belongs to one event loop. url: of Redis, which was checked. replica: this one's name."""

    def __init__(self, url: str, replica: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)
        self._replica = replica
        self._up = True

    async def write(self, lists: Lists) -> None:
        """Write this replica's jobs. They expire if this is not done again. Does nothing while Redis is away."""
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.sadd(_KEY, self._replica)
                pipe.set(f"{_KEY}:{self._replica}", orjson.dumps(lists), ex=_EXPIRES_S)
                await pipe.execute()
        except ERRORS as error:
            self._reached(error)
        else:
            self._reached(None)

    async def read(self, client: str) -> list[Any]:
        """Return what the other replicas have written for a client; nothing while Redis is away."""
        try:
            known: set[Any] = await self._redis.smembers(_KEY)
            others = [name for name in islice(known, _MOST_REPLICAS) if name != self._replica.encode()]
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in others:
                    pipe.getrange(_KEY.encode() + b":" + name, 0, _MOST_BYTES)
                written = await pipe.execute()
            if gone := [name for name, text in zip(others, written, strict=True) if not text]:
                await self._redis.srem(_KEY, *gone)
        except ERRORS as error:
            self._reached(error)
            return []
        self._reached(None)
        return [job for text in written for job in _of_client(text, client)]

    async def close(self) -> None:
        await self._redis.aclose()

    def _reached(self, error: Exception | None) -> None:
        """Log a change between reachable and not."""
        if self._up and error is not None:
            log.warning("GET /videos lists this server's jobs alone: Redis: %s", reason(error))
        self._up = error is None


def _of_client(text: bytes, client: str) -> list[Any]:
    """The jobs of a client in a replica's list; none if it is damaged."""
    try:
        lists = orjson.loads(text)
    except orjson.JSONDecodeError:
        return []
    jobs = lists.get(client) if isinstance(lists, dict) else None
    return jobs if isinstance(jobs, list) else []
