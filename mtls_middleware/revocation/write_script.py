"""The Lua script that writes to the revocation list. A script is atomic, so no reader sees a partial write."""

from mtls_middleware.revocation.format import FIRST_PAGE, HEAD_SCORE, ID_SIZE, PAGE_UNITS, UNIT_SIZE

# The results of the script.
WRITTEN, NOT_CREATED, OTHER_DATA = 1, 0, -1

# The sweep never removes the last 32,768 changes. A process that is at most this number of changes behind continues to
# read where it was. A process that is further behind may have to read the whole list.
SWEEP_WINDOW = 32_768
# Maximum number of writes and of units for which a write extends the last page. Larger pages are faster to read for a
# process that starts. But each write sends the page to all replicas again, and each poll after it reads the page again.
_EXTENDED_WRITES, _EXTENDED_UNITS = 16, 64
# Maximum number of pages that one write sweeps, and of expired entries that one write removes. Each of the two keeps
# Redis busy for a few milliseconds.
_SWEPT_PAGES, _EXPIRED_ENTRIES = 8, 1000


def write_script(window: int = SWEEP_WINDOW, page_units: int = PAGE_UNITS) -> str:
    """Return the script. Only tests give sizes other than the defaults.

    Its arguments are the mode, a random number (24 hexadecimal digits), the units, and the Unix time of the writer.
    - `revoke` adds entries to a complete list.
    - `create` also adds entries to a list that does not exist or is not complete.
    - `complete` also marks the list as complete.

    Entries and times that the list already has are not written again. An entry is removed as expired only if two clocks
    agree: that of Redis and that of the writer.

    The pages would grow without limit, because they keep removed entries and former times. So each write sweeps some
    pages: it removes such changes, and merges small pages into one page, at the position of the last merged page. A
    sweep begins again from the first page if more than half of the changes in the pages can be removed.
    """
    return _SCRIPT % {
        "base": FIRST_PAGE,
        "head": HEAD_SCORE,
        "id": ID_SIZE,
        "extended_ids": ID_SIZE * _EXTENDED_WRITES,
        "extended_units": UNIT_SIZE * min(_EXTENDED_UNITS, page_units),
        "unit": UNIT_SIZE,
        "units": UNIT_SIZE * page_units,
        # The script finds pages by the position of their first change. The last change of a page can be `page_units`
        # later, and the sweep must not remove one of the last `window` changes.
        "window": window + page_units,
        "swept": _SWEPT_PAGES,
        "expired": _EXPIRED_ENTRIES,
        "written": WRITTEN,
        "not_created": NOT_CREATED,
        "other_data": OTHER_DATA,
    }


_SCRIPT = """
local key, mode, nonce, units = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local now = math.min(tonumber(redis.call('TIME')[1]), tonumber(ARGV[4]))

local function text_of(position, ids, units)
  return string.format('page-2:%%012.0f:%%02d:', position, #ids / %(id)d) .. ids .. units
end

local function parse(page)
  local _, last, position, writes = string.find(page, '^page%%-2:(%%d+):(%%d+):')
  if not last then return end
  last = last + writes * %(id)d
  return tonumber(position), string.sub(page, last - writes * %(id)d + 1, last), string.sub(page, last + 1)
end

-- The units for which `is_kept(score, time)` is true. The score is nil if the list does not have the entry.
local function filter(units, is_kept)
  local entries, kept = {}, {}
  for start = 1, #units, %(unit)d do entries[#entries + 1] = string.sub(units, start, start + 31) end
  if #entries == 0 then return '' end
  for n, score in ipairs(redis.call('ZMSCORE', key, unpack(entries))) do
    local unit = string.sub(units, n * %(unit)d - %(unit)d + 1, n * %(unit)d)
    if is_kept(tonumber(score), tonumber(string.sub(unit, 33))) then kept[#kept + 1] = unit end
  end
  return table.concat(kept)
end

local complete, list, id, page, position, logged, swept, writes = '0', nonce, nonce, 0, 0, 0, 0, 0
local head = redis.call('ZRANGE', key, -1, -1)[1]
if head then
  complete, list, id, page, position, logged, swept, writes = string.match(
    head, '^revocations%%-2:([01]):(%%x+):(%%x+):(%%d+):(%%d+):(%%d+):(%%d+):(%%d+):%%d+$')
  if not complete then return %(other_data)d end
  page, position, logged, swept = tonumber(page), tonumber(position), tonumber(logged), tonumber(swept)
end
if complete == '0' and mode == 'revoke' then return %(not_created)d end
local tail = redis.call('ZRANGE', key, %(base)d + page, %(base)d + page, 'BYSCORE')[1]
if not head then tail = text_of(0, id, '') end
if not tail or not parse(tail) then return %(other_data)d end
local pages, edge = {}, position - %(window)d
if edge > swept and redis.call('ZCOUNT', key, %(base)d + swept, %(base)d + edge) >= %(swept)d then
  pages = redis.call('ZRANGE', key, %(base)d + swept, %(base)d + edge, 'BYSCORE', 'LIMIT', 0, %(swept)d)
end
for _, each in ipairs(pages) do
  if not parse(each) then return %(other_data)d end
end

units = filter(units, function(score, time) return not score or score < time end)
if #units > 0 or not head then
  local _, ids, old = parse(tail)
  if #units > 0 then
    local scores = {}
    for start = 1, #units, %(unit)d do
      scores[#scores + 1] = string.sub(units, start + 32, start + 41)
      scores[#scores + 1] = string.sub(units, start, start + 31)
    end
    redis.call('ZADD', key, 'GT', unpack(scores))
    id = string.sub(redis.sha1hex(id .. nonce), 1, %(id)d)
    if #ids == %(extended_ids)d or #old > 0 and #old + #units > %(extended_units)d then
      page, ids, old = position, '', ''
    end
    ids = ids .. id
  end
  redis.call('ZREMRANGEBYSCORE', key, %(base)d + page, %(base)d + page)
  redis.call('ZADD', key, %(base)d + page, text_of(page, ids, old .. units))
  position, logged = position + #units / %(unit)d, logged + #units / %(unit)d
end

local expired = math.min(redis.call('ZCOUNT', key, '-inf', '(' .. now), %(expired)d)
if expired > 0 then redis.call('ZREMRANGEBYRANK', key, 0, expired - 1) end

if #pages > 0 then
  local first, last, ids, kept, size, count
  local function flush()
    if count > 1 or #kept < size then
      redis.call('ZREMRANGEBYSCORE', key, %(base)d + first, %(base)d + last)
      if #kept > 0 then redis.call('ZADD', key, %(base)d + last, text_of(last, ids, kept)) end
      logged = logged - (size - #kept) / %(unit)d
    end
  end
  for n, text in ipairs(pages) do
    local at, own_ids, old = parse(text)
    local new = filter(old, function(score, time) return score == time end)
    if n > 1 and #kept + #new <= %(units)d then
      last, ids, kept, size, count = at, string.sub(own_ids, -%(id)d), kept .. new, size + #old, count + 1
    else
      if n > 1 then flush() end
      first, last, ids, kept, size, count = at, at, own_ids, new, #old, 1
    end
  end
  flush()
  swept = last + 1
elseif logged > 2 * redis.call('ZCOUNT', key, '-inf', '(%(base)d') + 2 * %(window)d then
  swept = 0
end

if mode == 'complete' then complete = '1' end
redis.call('ZREMRANGEBYSCORE', key, %(head)d, %(head)d)
redis.call('ZADD', key, %(head)d, string.format('revocations-2:%%s:%%s:%%s:%%.0f:%%.0f:%%.0f:%%.0f:%%.0f:%%.0f',
  complete, list, id, page, position, logged, swept, writes + 1, now))
return %(written)d
"""
