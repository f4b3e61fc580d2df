"""Who may lease a camera, renew its lease and take it over: a Lua script, which Redis runs atomically.

The hash `posewire:cameras` has the fields
- `lease:CAMERA`: generation, time at which the lease ends or has ended, owner, and the replica that is to have it next;
- `replica:NAME`: time until which the replica counts as live, and a digest of the cameras that it knows;
- `round`: when a replica last ran this script; `quiet`: until when nobody may take a camera of another.

Times are milliseconds of Redis's clock, and `-` is nobody. Fields that are damaged count as missing.
"""

from __future__ import annotations

ROUND = """
local mine = cjson.decode(ARGV[1])
local me, term, slow = mine.replica, mine.lease, 2 * mine.lease
local time = redis.call('TIME')
local now = 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end

local leases, live, last, quiet, changed = {}, {}, nil, 0, {}
local function number(text)
  return text and #text <= 15 and text:match('^%d+$') and tonumber(text)
end
local function drop(field) redis.call('HDEL', KEYS[1], field) end
local function change(name, lease)
  leases[name] = lease
  changed[name] = true
end
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local field, value = fields[i], fields[i + 1]
  local what, name = field:match('^(%a+):(.+)$')
  if what == 'lease' then
    local generation, ends, owner, next_one = value:match('^(%d+) (%d+) (%S+) (%S+)$')
    generation, ends = number(generation), number(ends)
    if generation and ends and ends > now - 86400000 then
      leases[name] = {generation = generation, ends = math.min(ends, now + slow), owner = owner, next = next_one}
    else
      drop(field)
    end
  elseif what == 'replica' then
    local ends, knows = value:match('^(%d+) (%S+)$')
    ends = number(ends)
    if ends and ends > now and ends <= now + slow then live[name] = {knows = knows, cameras = 0} else drop(field) end
  elseif field == 'round' then last = number(value)
  elseif field == 'quiet' then quiet = number(value) or 0
  else drop(field) end
end

if not last or now < last or now - last > mine.stalled then quiet = now + term end
quiet = math.min(quiet, now + term)
if mine.leaving then
  live[me] = nil
  drop('replica:' .. me)
else
  live[me] = {knows = mine.knows, cameras = 0}
  redis.call('HSET', KEYS[1], 'replica:' .. me, string.format('%.0f %s', now + term, mine.knows))
end

local known = {}
for _, name in ipairs(mine.cameras) do known[name] = true end
for name, generation in pairs(mine.released) do
  local lease = leases[name]
  if lease and lease.owner == me and lease.generation == generation then
    lease.owner, lease.ends = '-', now
    change(name, lease)
    if not known[name] then
      leases[name], changed[name] = nil, nil
      drop('lease:' .. name)
    end
  end
end
for name, generation in pairs(mine.held) do
  local lease = leases[name]
  if not lease or lease.generation < generation or (lease.generation == generation and lease.owner == me) then
    change(name, {generation = generation, ends = now + term, owner = me, next = lease and lease.next or '-'})
  end
end

local total, replicas = 0, 0
local function reserved(lease)
  return live[lease.next] and now < lease.ends + slow
end
for _, name in ipairs(mine.cameras) do
  if not leases[name] then change(name, {generation = 0, ends = now, owner = '-', next = '-'}) end
end
for name, lease in pairs(leases) do
  if known[name] or lease.ends > now then total = total + 1 end
  local holder = reserved(lease) and lease.next or lease.ends > now and lease.owner
  if live[holder] then live[holder].cameras = live[holder].cameras + 1 end
end
for _ in pairs(live) do replicas = replicas + 1 end

if live[me] and now >= quiet then
  local share = math.ceil(total / replicas)
  for _, name in ipairs(mine.cameras) do
    local lease = leases[name]
    if lease.owner == '-' or lease.ends <= now then
      local for_me = lease.next == me
      local late = now >= lease.ends + slow
      if for_me or (not reserved(lease) and (live[me].cameras < share or late)) then
        if not (for_me and reserved(lease)) then live[me].cameras = live[me].cameras + 1 end
        change(name, {generation = lease.generation + 1, ends = now + term, owner = me, next = '-'})
      end
    end
  end
end

local passing = false
for _, name in ipairs(mine.cameras) do
  local lease = leases[name]
  passing = passing or lease.owner == '-' or lease.ends <= now
end
for name in pairs(mine.held) do
  local lease = leases[name]
  if lease.owner == me then
    if lease.next ~= '-' and not live[lease.next] then
      lease.next = '-'
      change(name, lease)
    end
    passing = passing or lease.next ~= '-'
  end
end
if live[me] and now >= quiet and not passing then
  local least
  for name, replica in pairs(live) do
    if replica.knows == mine.knows and (not least or replica.cameras < live[least].cameras) then least = name end
  end
  if live[me].cameras > live[least].cameras + 1 then
    for name in pairs(mine.held) do
      local lease = leases[name]
      if known[name] and lease.owner == me then
        lease.next = least
        change(name, lease)
        break
      end
    end
  end
end

for name in pairs(changed) do
  local lease = leases[name]
  local value = string.format('%.0f %.0f %s %s', lease.generation, lease.ends, lease.owner, lease.next)
  redis.call('HSET', KEYS[1], 'lease:' .. name, value)
end
redis.call('HSET', KEYS[1], 'round', string.format('%.0f', now), 'quiet', string.format('%.0f', quiet))
redis.call('PEXPIRE', KEYS[1], 86400000)

local version = redis.pcall('HGET', KEYS[2], '#')
local reply = {type(version) == 'string' and number(version) or 0, replicas, now < quiet and 1 or 0}
for _, name in ipairs(mine.cameras) do
  local lease = leases[name]
  if lease.ends > now then
    reply[#reply + 1] = string.format('%.0f %s %s %s', lease.generation, lease.owner, lease.next, name)
  end
end
return reply
"""
"""One round of a replica: it counts as live, gives back and renews leases, takes free cameras, and learns who has what.

Argument: JSON of an object with
- replica: its name; leaving: true if it shall not count as live and takes nothing;
- lease, stalled: milliseconds that a lease lasts, and without any round after which Redis is taken to have stood still;
- cameras: the names that it knows; knows: a digest of them;
- held, released: generations by name, of leases that it has, and of those that it gives back.

Returns the version of the entries in the second key, see `redis_entries`, how many replicas are live, whether it is
quiet, and a text for each camera with a lease: generation, owner, who is to have it next, and name.

- A holder's lease is renewed unless somebody else has taken it, even if it is over, or is gone from Redis. After a time
  in which Redis stood still or was started again, nobody takes a camera for as long as a lease lasts, so that holders
  are there first. If two say that they hold a camera, the higher generation has it.
- A replica takes free cameras up to ceil(cameras / live replicas), and those that nobody has taken for two leases.
- If all cameras are taken, a replica that has at least two more than another with the same cameras names the other as
  the next owner of one of its own. It gives that one back when it has stopped it. For the time of two leases, only the
  other may take it.
"""
