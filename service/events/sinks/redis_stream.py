"""Streams of Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from redis.asyncio import Redis

from service.events.entries import RedisEntry
from service.events.event import PublishedEvent, iso
from service.events.sinks.base import Outcomes, SinkAwayError
from service.redis_errors import ERRORS, reason

_ADD = """
-- KEYS: the stream. ARGV: its length, seconds, and for each event id, source, time, kind and data.
for n = 3, #ARGV, 5 do
  if redis.call('SET', KEYS[1] .. ':has:' .. ARGV[n], '', 'NX', 'EX', ARGV[2]) then
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'id', ARGV[n], 'source', ARGV[n + 1],
      'time', ARGV[n + 2], 'kind', ARGV[n + 3], 'data', ARGV[n + 4])
  end
end
return 1
"""
"""Adds events that are not there already. What a connection that broke has added is not added again."""


class RedisSink:
    """Adds each event to a stream, with the fields id, source, time, kind and data (JSON)."""

    def __init__(self, entry: RedisEntry) -> None:
        self._entry = entry
        seconds = entry.timeout_seconds
        url = entry.url.get_secret_value()
        self._redis = Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds)
        self._add = self._redis.register_script(_ADD)

    async def tend(self, states: Mapping[str, Mapping[str, Any] | None]) -> None:
        """See Sink. There is nothing to do."""

    async def send(self, events: Sequence[PublishedEvent], outcomes: Outcomes) -> None:
        """See Sink."""
        values: list[str | bytes | int] = [self._entry.most, self._entry.repeat_seconds]
        for event in events:
            values += (event.id, event.source, iso(event.time), event.kind, orjson.dumps(event.data))
        try:
            await self._add(keys=[self._entry.stream], args=values)
        except ERRORS as error:
            raise SinkAwayError(reason(error)) from None  # the message may quote the password
        for event in events:
            outcomes.delivered(event)

    async def close(self) -> None:
        """See Sink."""
        await self._redis.aclose()
