--- The table of docs/replication.md: a row a claim, from the finished runs below out/.
--
-- Of the runs with equal parameters, whatever their seed, the one with the most seeds counts, then the newest.

local system = require "quench.c.system"
local options = require "quench.options"
local json = require "quench.json"
local claims = require "quench.recipe.claims"
local report = require "quench.recipe.report"
local runner = require "quench.recipe.runner"
local store = require "quench.recipe.store"

local replication = {}

replication.flags = options.spec("quench replication", {
  {"out", "string", default = "out", doc = "where results are"},
})

local function seedless(parameters)
  local out = {}
  for key, value in pairs(parameters) do
    if key ~= "seed" then out[key] = value end
  end
  return json.encode(out)
end

local function better(a, b)
  if not b or a.seeds ~= b.seeds then return not b or a.seeds > b.seeds end
  return a.finished > b.finished
end

--- The records of run.json to show, in order of recipe and parameters.
local function records(out)
  local best, keys = {}, {}
  for _, name in ipairs(system.list(out) or {}) do
    for _, hash in ipairs(system.list(out .. "/" .. name) or {}) do
      local record = store.read(("%s/%s/%s/run.json"):format(out, name, hash))
      local key = record and record.recipe .. " " .. seedless(record.parameters)
      if record and not best[key] then keys[#keys + 1] = key end
      if record and better(record, best[key]) then best[key] = record end
    end
  end
  table.sort(keys)
  for i, key in ipairs(keys) do keys[i] = best[key] end
  return keys
end

--- The scale with these parameters and the command that repeats the run; "-" for what only the recipe's file knows.
local function origin(record)
  local good, r = pcall(require("quench.recipe").load, record.recipe)
  if not good then return "-", "-" end
  local found, words = "-", report.arguments(r, record.parameters)
  for _, scale in ipairs(runner.sorted_keys(r.scales)) do
    if found == "-" and seedless(r.spec(r.scales[scale])) == seedless(record.parameters) then
      found, words = scale, ("--scale=%s --seed=%d"):format(scale, record.parameters.seed)
    end
  end
  local seeds = record.seeds > 1 and " --seeds=" .. record.seeds or ""
  return found, ("`quench run %s %s%s`"):format(record.recipe, words, seeds)
end

--- quench replication [--out=DIR]
function replication.main(list)
  local o = replication.flags(require("quench.recipe.arguments").parse(list, replication.flags))
  io.write "| recipe | claim | scale | seeds | measured | verdict | command |\n| --- | --- | --- | --- | --- | --- | --- |\n"
  for _, record in ipairs(records(o.out)) do
    local scale, command = origin(record)
    for _, j in ipairs(record.claims) do
      local cells = {record.recipe, j.id .. ": " .. j.text, scale, tostring(record.seeds), claims.measured(j), j.verdict, command}
      for i, cell in ipairs(cells) do cells[i] = cell:gsub("|", "\\|") end
      io.write("| ", table.concat(cells, " | "), " |\n")
    end
  end
end

return replication
