--- Which log to watch: a file is meant itself; of a folder, the log that is written now.
--
-- A run's own log.jsonl is in out/NAME/HASH/, but what it trains may serve other recipes, and then writes
-- out/shared/HASH/log.jsonl. Before such work the run's log has a line {"event":"work","folder":"../../shared/HASH"}.

local system = require "quench.c.system"

local find = {}

local DEPTH = 2 -- folders below the one that was named: out/NAME/HASH
local QUIET = 5 -- seconds without a line after which another log may take the place of the one being watched

--- Adds the logs of a folder and of those below it.
local function logs_below(folder, depth, found)
  local path = folder .. "/log.jsonl"
  if system.kind(path) == "file" then found[#found + 1] = path end
  if depth == 0 then return found end
  for _, name in ipairs(system.list(folder) or {}) do
    local inner = folder .. "/" .. name
    if system.kind(inner) == "folder" then logs_below(inner, depth - 1, found) end
  end
  return found
end

--- The log below a folder that was written last; `current` as long as it is written. Nil if there is none.
local function newest(folder, current)
  local best, latest
  for _, path in ipairs(logs_below(folder, DEPTH, {})) do
    local time = system.modified(path) or 0
    if path == current and os.time() - time < QUIET then return path end
    if not best or time > latest or time == latest and path < best then best, latest = path, time end
  end
  return best
end

--- The log of the work that a run's log named last, or nil; a run that has logged something of its own since is meant itself.
local function of_work(path)
  local work
  for line in system.read_file(path):gmatch("[^\n]+") do
    local event = line:match('"event":"(%a+)"')
    if event == "work" then work = line:match('"folder":"([^"]+)"') elseif not event then work = nil end
  end
  local inner = work and ("%s/%s/log.jsonl"):format(path:match("^(.*)/[^/]*$"), work)
  for _ = 1, inner and 2 or 0 do inner = inner:gsub("[^/.][^/]*/%.%./", "", 1) end -- out/NAME/HASH/../../shared: out/shared
  return inner and system.exists(inner) and inner or nil
end

--- The log that `path` means now; current: the one watched so far. Nil if there is none.
function find.log(path, current)
  if system.kind(path) ~= "folder" then return path end
  local log = newest(path:gsub("(.)/+$", "%1"), current)
  return log and (of_work(log) or log)
end

return find
