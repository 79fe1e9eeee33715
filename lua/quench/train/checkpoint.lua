--- checkpoint.lua - what q.train leaves on disk: states as safetensors, the log as JSON lines.
--
--   latest.safetensors      the newest state, overwritten (atomically)
--   step-000000400.safetensors   kept states, to fork from
--   log.jsonl               one object a step
--
-- A state has the parameters ("model.<name>"), the optimizer's tensors ("optim.<name>"), and in
-- its metadata the configuration, the step, the numbers of the optimizer and the place in the data.

local q = require "quench"
local json = require "quench.json"
local options = require "quench.options"

local checkpoint = {}

local FORMAT = "quench.checkpoint.1"

--- The file of the state kept at a step.
function checkpoint.path(folder, step) return ("%s/step-%09d.safetensors"):format(folder, step) end

local function latest(folder) return folder .. "/latest.safetensors" end
local function log_path(folder) return folder .. "/log.jsonl" end

--- What a run must have in common with a state to go on from it.
local function identity(run, optim)
  return json.encode{family = run.model.family or "?", config = run.model.config or {}, optim = optim.name or "?"}
end

-- ---- writing --------------------------------------------------------------

--- Writes the state; keep: under the name of its step as well.
function checkpoint.write(run, keep)
  local folder = run.options.folder
  q.system.make_directories(folder)
  local tensors, numbers = {}, {}
  for _, p in ipairs(run.model:named_parameters()) do tensors["model." .. p[1]] = p[2] end
  for key, value in pairs(run.optim:state()) do
    if type(value) == "userdata" then tensors["optim." .. key] = value else numbers[key] = value end
  end
  local metadata = {
    format = FORMAT, identity = identity(run, run.optim), step = tostring(run.step), optim = json.encode(numbers),
    data = ("%d"):format(run.stream:counter()), dropout = ("%d"):format(run.dropout:counter()), recent = json.encode(run.recent),
  }
  local path = keep and checkpoint.path(folder, run.step) or latest(folder)
  q.save(path, tensors, metadata)
end

--- Appends a record to the log.
function checkpoint.append(run, record)
  q.system.make_directories(run.options.folder)
  q.system.append_file(log_path(run.options.folder), json.encode(record) .. "\n")
end

-- ---- reading --------------------------------------------------------------

--- Kept states of a folder, oldest first: {step=, path=}.
function checkpoint.list(folder)
  local list = {}
  if not folder or not q.system.exists(folder) then return list end
  for _, name in ipairs(q.system.list(folder)) do
    local step = name:match("^step%-(%d+)%.safetensors$")
    if step then list[#list + 1] = {step = tonumber(step), path = folder .. "/" .. name} end
  end
  table.sort(list, function(a, b) return a.step < b.step end)
  return list
end

local function read(path)
  local tensors, metadata = q.load(path)
  if not metadata or metadata.format ~= FORMAT then options.fail("'%s' is not a checkpoint of q.train", path) end
  return tensors, metadata
end

--- Puts a state into a run: parameters, optimizer, place in the data, step. A fork of a wrapped optimizer may start
-- from a state of the one inside it: SAM in the cooldown of a plain run, say.
function checkpoint.load(run, path, fork)
  q.scope(function()
    local tensors, metadata = read(path)
    local optim = run.optim
    if fork and optim.inner and metadata.identity == identity(run, optim.inner) then optim = optim.inner end
    local mine = identity(run, optim)
    if metadata.identity ~= mine then
      options.fail("'%s' belongs to another run: it has %s, this run has %s", path, metadata.identity, mine)
    end
    local state = json.decode(metadata.optim)
    for name, t in pairs(tensors) do
      local key = name:match("^optim%.(.+)")
      if key then state[key] = t end
    end
    for _, p in ipairs(run.model:named_parameters()) do
      local t = tensors["model." .. p[1]]
      if not t then options.fail("'%s' has no tensor 'model.%s'", path, p[1]) end
      q.no_grad(p[2].copy_, p[2], t)
    end
    optim:load(state)
    run.step = tonumber(metadata.step)
    run.stream:counter(tonumber(metadata.data))
    run.dropout:counter(tonumber(metadata.dropout))
    run.recent = json.decode(metadata.recent)
  end)
end

--- The records of the log up to a step; later ones (written after the state) are dropped from the file too.
local function read_log(folder, last)
  local log, dropped, text = {}, false, {}
  local path = log_path(folder)
  if not q.system.exists(path) then return log end
  for line in q.system.read_file(path):gmatch("([^\n]*)\n") do
    local ok, record = pcall(json.decode, line)
    if ok and record.step <= last then
      log[#log + 1] = record
      text[#text + 1] = line .. "\n"
    else
      dropped = true
    end
  end
  if dropped then q.system.write_file(path, table.concat(text)) end
  return log
end

--- The newest state of the run's folder, if there is one. Returns whether there was.
function checkpoint.restore(run)
  local folder = run.options.folder
  local newest = q.system.exists(latest(folder)) and latest(folder)
  local best = -1
  if newest then
    local _, metadata = q.scope(read, newest)
    best = tonumber(metadata.step)
  end
  for _, c in ipairs(checkpoint.list(folder)) do
    if c.step > best and c.step <= run.options.steps then newest, best = c.path, c.step end
  end
  if not newest then
    if q.system.exists(log_path(folder)) then q.system.write_file(log_path(folder), "") end
    return false
  end
  checkpoint.load(run, newest)
  run.log = read_log(folder, run.step)
  return true
end

--- The model of a state: a new one with its configuration and parameters.
function checkpoint.model(path)
  local tensors, metadata = read(path)
  local about = json.decode(metadata.identity)
  local values = {}
  for name, t in pairs(tensors) do
    local key = name:match("^model%.(.+)")
    if key then values[key] = tensors["optim." .. key .. ".x"] or t end -- schedule_free is judged at its average x
  end
  return require("quench.models").new(about.family, about.config):assign(values), tonumber(metadata.step)
end

return checkpoint
