--- The store: folders of finished and unfinished work, found again by the hash of what defines them.
--
--   out/<recipe>/<hash>/    one run of a recipe; out/shared/<hash>/ work that recipes share
--
-- A folder is locked by whoever works in it; the lock ends with the process, however it ends,
-- so nothing is ever stale. Work counts as finished when its result file exists, and that file
-- is written last and atomically.

local system = require "quench.c.system"
local json = require "quench.json"
local progress = require "quench.progress"

local store = {}

--- Twelve hexadecimal digits of the SHA-256 of the text.
function store.hash(text) return system.sha256(text):sub(1, 12) end

--- Removes a folder and all in it; a missing one is fine. Symbolic links are removed, not followed.
function store.remove(folder)
  for _, name in ipairs(system.list(folder) or {}) do
    local path = folder .. "/" .. name
    if not os.remove(path) and system.kind(path) == "folder" then store.remove(path) end
  end
  os.remove(folder)
end

--- Empties a folder but for its lock.
local function empty(folder)
  for _, name in ipairs(system.list(folder) or {}) do
    if name ~= ".lock" then store.remove(folder .. "/" .. name) end
  end
end

--- Makes and locks a folder. Somebody else's work is waited for if wait is true; gives nil if it is "try"; else an error.
function store.claim(folder, wait)
  system.make_directories(folder)
  local lock = system.lock(folder .. "/.lock")
  if lock or wait == "try" then return lock end
  if not wait then
    error(("another process is working in %s; wait for it to end, or choose another folder with --out"):format(folder), 0)
  end
  progress.message("waiting for another process to finish %s", folder)
  repeat
    system.sleep(0.2)
    lock = system.lock(folder .. "/.lock")
  until lock
  return lock
end

local not_finite = {NaN = 0 / 0, Infinity = math.huge, ["-Infinity"] = -math.huge} -- as json.lua writes them

local function numbers_back(t)
  for key, value in pairs(t) do
    if type(value) == "table" then numbers_back(value)
    elseif not_finite[value] then t[key] = not_finite[value] end
  end
  return t
end

--- The table in a file, or nil if there is no file.
function store.read(path)
  if system.exists(path) then return numbers_back(json.decode(system.read_file(path), {name = path})) end
end

function store.write(path, value)
  system.write_file(path, json.encode(value, {indent = 1}) .. "\n")
end

local redone = {} -- folders made again by --force in this process

--- The content of folder/file, made by fn(folder) unless it is there. The result has gone through
-- JSON either way, so that fresh and found again are the same. `again` makes it anew, once a process.
-- With wait = "try": nil where another process works in the folder.
function store.once(folder, file, again, wait, fn)
  local lock = store.claim(folder, wait)
  if not lock then return nil end
  local good, result, fresh = pcall(function()
    if again and not redone[folder] then empty(folder) end
    redone[folder] = true
    local found = store.read(folder .. "/" .. file)
    if found ~= nil then return found, false end
    store.write(folder .. "/" .. file, fn(folder))
    return store.read(folder .. "/" .. file), true
  end)
  lock:release()
  if not good then error(result, 0) end
  return result, fresh
end

return store
