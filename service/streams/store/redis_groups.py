"""Shares groups of streams between servers by Redis: the people who are absent, and blocks of ids.

For each group with a stream here, one script at a time exchanges changes a few times a second; no frame waits for it.
While Redis is away, each server's part of a group goes on alone. Nothing in Redis is trusted: what is damaged is
dropped. People expire by the clock of Redis, and their key with the last of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import struct
from collections.abc import Sequence

from redis.asyncio import Redis

from service.redis_errors import reason, refuses_all
from service.streams.groups import ID_BLOCK, MOST_PEOPLE, AbsentPerson, Group, GroupKey, Groups
from service.streams.store.base import StoreAwayError
from service.streams.store.redis import converted_errors, open_redis
from service.tracking_workers.state import MOST_IDS

log = logging.getLogger(__name__)

_PEOPLE, _IDS = "posewire:group:", "posewire:group-ids:"
_PERIOD_S, _LONGEST_PAUSE_S = 0.25, 2.0
"""The time between two exchanges, and the longest pause while Redis is away."""
_KEEP_IDS_S = 7200
"""How long the ids of a group are counted on after its last stream. Longer than a stream can be resumed."""
_BLOCKS = 2
"""Blocks of ids that a group has in reserve for its next streams."""
_HEAD = struct.Struct("<Bd")
_VERSION = 1
_LONGEST_S = 1e7
"""Bound of times in Redis, in seconds."""

EXCHANGE = """
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
local known, most, largest, added = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local changed = false
for n = 0, added - 1 do
  local at = 5 + 4 * n
  local left, ends = now - tonumber(ARGV[at + 1]), now + tonumber(ARGV[at + 2])
  redis.call('HSET', KEYS[1], ARGV[at], string.format('%.0f:%.0f:', left, ends) .. ARGV[at + 3])
  changed = true
end
for n = 5 + 4 * added, #ARGV do
  changed = redis.call('HDEL', KEYS[1], ARGV[n]) == 1 or changed
end
local version = redis.call('HGET', KEYS[1], 'version') or ''
if changed then
  version = time[1] .. '.' .. time[2]
  redis.call('HSET', KEYS[1], 'version', version)
elseif version == known and version ~= '' then
  return {version}
end
local all, people = redis.call('HGETALL', KEYS[1]), {}
for n = 1, #all, 2 do
  local id, text = all[n], all[n + 1]
  if id ~= 'version' then
    local left, ends, at = text:match('^(%d+):(%d+):()')
    left, ends = tonumber(left or ''), tonumber(ends or '')
    if #text <= largest and left and ends and ends > now and #id <= 10 and id:match('^%d+$') then
      people[#people + 1] = {id, left, ends, text:sub(at)}
    else
      redis.call('HDEL', KEYS[1], id)
    end
  end
end
table.sort(people, function(a, b) return a[2] > b[2] end)
local reply, last = {version}, now
for n, person in ipairs(people) do
  if n > most then
    redis.call('HDEL', KEYS[1], person[1])
  else
    last = math.max(last, person[3])
    reply[#reply + 1] = {person[1], now - person[2], person[3] - now, person[4]}
  end
end
redis.call('PEXPIRE', KEYS[1], math.max(1, last - now))
return reply
"""
"""Adds and removes people. Returns the version, and, unless that is known, all people: id, milliseconds since they
left, milliseconds until they are forgotten, and what they look like.

Arguments: the version that is known, the most people, the most bytes of one, how many are added, for each of these the
same four values as in the reply, and then ids to remove.
"""

TAKE_IDS = """
local next = redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GET', KEYS[1]) or ''
next = #next <= 10 and next:match('^%d+$') and tonumber(next) or 1
next = math.max(next, tonumber(ARGV[1]))
redis.call('SET', KEYS[1], string.format('%.0f', next + tonumber(ARGV[2])), 'EX', ARGV[3])
return next
"""
"""Takes a block of ids. Returns the first. Arguments: the least that it may be, how many (with 0, the count is only
kept), and the seconds to keep the count.
"""


class RedisGroups:
    """Exchanges the `groups` of this server with others by the Redis at `url`."""

    def __init__(self, url: str, groups: Groups) -> None:
        self._redis: Redis = open_redis(url)
        self._groups = groups
        self._versions: dict[GroupKey, bytes] = {}
        self._up = True
        self._soon = asyncio.Event()
        groups.joined = self._soon.set

    async def run(self) -> None:
        """Exchange changes, forever."""
        pause = _PERIOD_S
        while True:
            await self.exchange()
            pause = _PERIOD_S if self._up else min(2 * pause, _LONGEST_PAUSE_S)
            self._soon.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._soon.wait()
            except TimeoutError:
                continue

    async def exchange(self) -> None:
        """Exchange changes of all groups that have some, or a stream."""
        active = [group for group in self._groups.all if group.streams or group.added or group.removed]
        self._versions = {group.key: self._versions.get(group.key, b"") for group in active}
        try:
            for group in active:
                await self._exchange(group)
        except StoreAwayError as error:
            if self._up:
                log.warning("Redis is away (%s): groups of streams share people on each server alone", error.reason)
            self._up = False
            for group in active:
                group.alone = True
        else:
            if not self._up:
                log.warning("Redis is back: groups of streams share people between servers again")
            self._up = True

    async def close(self) -> None:
        await self._redis.aclose()

    async def _exchange(self, group: Group) -> None:
        name = _name(group.key)
        added, removed, now = dict(group.added), set(group.removed), group.clock()
        arguments: list[bytes | int | str] = [self._versions[group.key], MOST_PEOPLE, _bytes_of(group.key), len(added)]
        for person in added.values():
            arguments += [person.id, _ms(now - person.left), _ms(person.until - now), _pack(person)]
        arguments += sorted(removed)
        wanted = _BLOCKS - len(group.reserve or [])
        async with converted_errors(), self._redis.pipeline(transaction=False) as pipeline:
            pipeline.eval(EXCHANGE, 1, _PEOPLE + name, *arguments)
            for _ in range(max(1, wanted)):
                pipeline.eval(TAKE_IDS, 1, _IDS + name, group.next_id, ID_BLOCK if wanted > 0 else 0, _KEEP_IDS_S)
            reply, *blocks = await pipeline.execute(raise_on_error=False)
        for answer in (reply, *blocks):
            if refuses_all(answer):
                raise StoreAwayError(reason(answer))
        if not isinstance(reply, list) or not reply or not isinstance(reply[0], bytes):
            raise StoreAwayError(reason(reply))
        for number, person in added.items():
            if group.added.get(number) is person:
                del group.added[number]
        group.removed -= removed
        if len(reply) > 1 or reply[0] != self._versions[group.key]:
            group.replace(_people(reply[1:], group))
        self._versions[group.key] = reply[0]
        if wanted > 0 and group.reserve is not None:
            group.reserve += [first for first in blocks if isinstance(first, int) and 1 <= first < MOST_IDS // 2]
        group.alone = False


def _name(key: GroupKey) -> str:
    """Of the keys in Redis. Neither the client nor the group can be read from it."""
    return hashlib.sha256(repr(key).encode()).hexdigest()[:32]


def _bytes_of(key: GroupKey) -> int:
    """The most bytes of a person in Redis."""
    return 4 * key.keypoints + key.values + _HEAD.size + 40


def _pack(person: AbsentPerson) -> bytes:
    return _HEAD.pack(_VERSION, person.known_s) + person.looks


def _people(rows: Sequence[object], group: Group) -> dict[int, AbsentPerson]:
    """Read what Redis has replied. Rows that are no people are left out."""
    people: dict[int, AbsentPerson] = {}
    now, size = group.clock(), 4 * group.key.keypoints + group.key.values
    for row in rows:
        match row:
            case [bytes(number), int(age), int(rest), bytes(data)] if len(data) == _HEAD.size + size:
                version, known_s = _HEAD.unpack_from(data)
                left, until = now - age / 1e3, now + rest / 1e3
                good = version == _VERSION and 0 <= known_s <= _LONGEST_S and -1 <= age / 1e3 <= _LONGEST_S
                if good and number.isdigit() and 1 <= int(number) < MOST_IDS and rest / 1e3 <= _LONGEST_S:
                    people[int(number)] = AbsentPerson(int(number), known_s, min(left, now), until, data[_HEAD.size :])
            case _:
                continue
    return people


def _ms(seconds: float) -> int:
    return max(0, round(1e3 * min(seconds, _LONGEST_S)))
