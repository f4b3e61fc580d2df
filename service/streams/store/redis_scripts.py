"""The Lua scripts with which RedisStore accesses Redis. Each runs atomically, on one key."""

from __future__ import annotations

_COMMON = """
local function count(text, digits)
  return text and #text <= digits and text:match('^%d+$') and tonumber(text)
end
local function now()
  local time = redis.call('TIME')
  return 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
end
local kind = redis.call('TYPE', KEYS[1]).ok
"""
"""The start of each script. Generations have up to 9 digits and sequences up to 15: Lua represents them exactly."""

KEEP = (
    _COMMON
    + """
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
local known = redis.call('HMGET', KEYS[1], 'generation', 'sequence')
local generation, sequence = count(known[1], 9) or -1, count(known[2], 15) or -1
local mine = tonumber(ARGV[1])
if generation > mine then return generation end
if generation < mine or sequence <= tonumber(ARGV[2]) then
  local dated = string.format('%s:%.0f', ARGV[2], now() - tonumber(ARGV[5]))
  redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'sequence', ARGV[2], 'state', ARGV[3], 'dated', dated)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return mine
"""
)
"""Stores a state, unless a newer one is there. Returns the generation that holds the session.

Arguments: generation, sequence, state, milliseconds to keep it, its age in milliseconds. The date contains the sequence
that it belongs to, because servers of older versions write states without a date.
"""

CLAIM = (
    _COMMON
    + """
if kind == 'none' then return false end
if kind ~= 'hash' then return 'it is a ' .. kind end
local known = redis.call('HMGET', KEYS[1], 'generation', 'sequence', 'dated')
local size = redis.call('HSTRLEN', KEYS[1], 'state')
if not count(known[1], 9) then return 'its generation is no number' end
if not count(known[2], 15) then return 'its sequence is no number' end
if size > tonumber(ARGV[2]) then return 'its state has ' .. size .. ' bytes' end
local sequence, date = (known[3] or ''):match('^(%d+):(%d+)$')
local age = sequence == known[2] and count(date, 15) and now() - tonumber(date) or 0
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {known[1], known[2], redis.call('HGET', KEYS[1], 'state') or '', age}
"""
)
"""Passes a session to a new holder. Returns the last holder's generation, the sequence, the state and its age in
milliseconds; nil if there is no session; or a string that describes how it is damaged.

Arguments: milliseconds to keep the state, the most bytes of a state. The state stays in Redis: if the new holder dies
before it has stored a state of its own, the next one can continue from there.
"""

PROBE = """
local value = ARGV[1]
if redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('STRLEN', KEYS[1]) == #value then
  value = redis.call('GET', KEYS[1])
end
redis.call('SET', KEYS[1], value)
if ARGV[2] == 'forget' then redis.call('DEL', KEYS[1]) end
return value
"""
"""Checks that Redis takes writes, and agrees on a value. Returns the value that all servers use: the one in Redis if it
has the same length, otherwise the argument.

Arguments: a value, and `keep` or `forget`. Always writes, because a read-only Redis cannot be used.
"""
