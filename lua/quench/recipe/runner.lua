--- The runner: parameters, folders, seeds, results, figures and claims of one recipe.

local system = require "quench.c.system"
local machine = require "quench.c.machine"
local help = require "quench.help"
local options = require "quench.options"
local json = require "quench.json"
local progress = require "quench.progress"
local claims = require "quench.recipe.claims"
local context = require "quench.recipe.context"
local report = require "quench.recipe.report"
local store = require "quench.recipe.store"
local units = require "quench.units"

local runner = {}

runner.flags = options.spec("quench run", {
  {"scale", "string", doc = "a named set of parameters: smoke, tiny, small, medium, paper (or the next smaller one there is)"},
  {"seeds", "integer", default = 1, min = 1, max = 1000, doc = "runs with this many seeds, from --seed on"},
  {"out", "string", default = "out", doc = "where results go"},
  {"force", "boolean", default = false, doc = "run again even if finished, sub-runs included"},
  {"list", "boolean", default = false, doc = "show what would run, its state and cost"},
  {"index", "integer", min = 1, doc = "only the n-th of the runs that --list shows"},
  {"emit", "string", choices = {"slurm", "parallel"}, doc = "print a script with one job a seed"},
  {"profile", "boolean", default = false, doc = "show where the time goes"},
  {"quiet", "boolean", default = false, doc = "no progress"},
  {"help", "boolean", default = false, doc = "this text"},
})

--- The keys of a table, in order.
function runner.sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local SIZES = {smoke = 1, tiny = 2, small = 3, medium = 4, paper = 5}

--- The names of a recipe's scales, the usual ones by their size, others behind them.
function runner.scales(r)
  local names = runner.sorted_keys(r.scales)
  local place = {}
  for i, name in ipairs(names) do place[name] = SIZES[name] or #names + i + 5 end
  table.sort(names, function(a, b) return place[a] < place[b] end)
  return names
end

--- The scale that stands for one: itself, or for a usual one that the recipe lacks the next smaller it has (a demonstration
-- has nothing to do at `paper` that it does not do at `tiny`). nil: none.
function runner.scale_for(r, scale)
  if r.scales[scale] then return scale end
  local found
  for _, name in ipairs(runner.scales(r)) do
    if SIZES[scale] and SIZES[name] and SIZES[name] < SIZES[scale] then found = name end
  end
  return found
end

--- Defaults, then the scale, then the command line.
function runner.parameters(r, given, scale)
  local values = {}
  if scale then
    local chosen = runner.scale_for(r, scale)
    if not chosen then
      local names = runner.scales(r)
      error(("%s has no scale '%s'%s; scales: %s"):format(r.name, scale, options.suggest(scale, names),
        #names > 0 and table.concat(names, ", ") or "none"), 0)
    end
    if chosen ~= scale then
      io.stderr:write(("%s has no scale '%s'; '%s' is the next smaller it has\n"):format(r.name, scale, chosen))
    end
    for key, value in pairs(r.scales[chosen]) do values[key] = value end
  end
  for key, value in pairs(given) do values[key] = value end
  return r.spec(values)
end

--- The folder of a run below `out`: recipe {name=, source=, run=}, parameters, how many seeds.
function runner.folder(r, p, seeds, out)
  local text = r.source ~= "" and r.source or system.sha256(string.dump(r.run)) -- of a recipe made at the prompt
  local identity = json.encode{version = system.version, recipe = text, parameters = p, seeds = seeds}
  return ("%s/%s/%s"):format(out, r.name, store.hash(identity))
end

local function folder_of(r, p, seeds, o) return runner.folder(r, p, seeds, o.out) end

local function new_context(r, p, seeds, folder, o)
  return context.new{recipe = r, params = p, seed = p.seed, seeds = seeds, folder = folder, out = o.out, force = o.force, quiet = o.quiet}
end

local function with(t, name, new)
  local out = {}
  for key, value in pairs(t) do out[key] = value end
  out[name] = new
  return out
end

local function with_seed(p, seed) return with(p, "seed", seed) end

--- Runs one seed unless its results are there. Returns the content of results.json, the context, and whether it ran;
-- nil for the content where another process works on it and wait is "try".
local function run_seed(r, p, o, wait)
  local folder = folder_of(r, p, 1, o)
  local ctx = new_context(r, p, 1, folder, o)
  local content, fresh = store.once(folder, "results.json", o.force, wait or false, function()
    ctx:log{event = "start", parameters = p, stamp = require("quench.doctor").stamp()}
    local results
    local estimate = require "quench.curvature.estimate"
    local function run(...) return estimate.whole(r.run, ...) end -- Ctrl-C must not leave a part of an estimate as the result
    if o.profile then results = require("quench.recipe.profile").call(function(text) io.stderr:write(text) end, run, p, ctx)
    else results = run(p, ctx) end
    if type(results) ~= "table" then error(("recipe %s: run must return a table of results, got %s"):format(r.name, type(results)), 0) end
    ctx:log{event = "end"}
    return {recipe = r.name, version = system.version, parameters = p, seeds = {p.seed}, runs = {results}}
  end)
  return content, ctx, fresh
end

--- The results of all seeds, with the context of the folder that holds them together. Seeds that another
-- process works on come last, and are waited for: several processes share a sweep.
local function run_seeds(r, p, o)
  if o.seeds == 1 then return run_seed(r, p, o, o.index and "try") end
  local bar = progress{total = o.seeds, label = "seed", quiet = o.quiet}
  local all = {recipe = r.name, version = system.version, parameters = p, seeds = {}, runs = {}}
  local done = 0
  for _, wait in ipairs{"try", true} do
    for i = 1, o.seeds do
      local seed = p.seed + i - 1
      bar.label = "seed " .. seed
      local content = not all.runs[i] and run_seed(r, with_seed(p, seed), o, wait)
      if content then
        done, all.seeds[i], all.runs[i] = done + 1, seed, content.runs[1]
        bar:update(done)
      end
    end
  end
  bar:finish()
  local folder = folder_of(r, p, o.seeds, o)
  local content, fresh = store.once(folder, "results.json", o.force, true, function() return all end)
  return content, new_context(r, p, o.seeds, folder, o), fresh
end

--- Seconds of work in a folder by its log, whose clock starts anew with each process that went on there.
local function worked(folder)
  local path = folder .. "/log.jsonl"
  local sum, last = 0, 0
  for line in (system.exists(path) and system.read_file(path) or ""):gmatch("[^\n]+") do
    local time = tonumber(line:match('"time":%s*([%d.eE+-]+)')) or last
    if time < last then sum = sum + last end
    last = time
  end
  return sum + last
end

--- Seconds that the runs of all seeds took, whenever and wherever they ran.
local function seconds_of(r, p, seeds, o)
  local sum = 0
  for i = 1, seeds do sum = sum + worked(folder_of(r, with_seed(p, p.seed + i - 1), 1, o)) end
  return sum
end

--- Figures, claims and report.md from the results; run.json, written last, says that all are there.
local function present(r, p, content, ctx, o)
  local judged, started = {}, system.clock()
  for i, claim in ipairs(r.claims) do judged[i] = claims.judge(claim, content.runs, p) end
  for _, name in ipairs(runner.sorted_keys(r.figures)) do ctx:figure(name, r.figures[name](content.runs, p)) end
  local run = {
    recipe = r, params = p, seeds = ctx.seeds, folder = ctx.folder, judged = judged, figures = ctx.figures, notes = ctx.notes,
    seconds = seconds_of(r, p, ctx.seeds, o) + system.clock() - started, stamp = require("quench.doctor").stamp(),
    extra = r.report and r.report(content.runs, p),
  }
  system.write_file(ctx:path "report.md", report.text(run))
  local record = {
    recipe = r.name, path = r.path, parameters = p, seeds = ctx.seeds, claims = judged, figures = ctx.figures, seconds = run.seconds,
    stamp = run.stamp, finished = os.date("!%Y-%m-%dT%H:%M:%SZ"),
    results_sha256 = system.sha256(system.read_file(ctx:path "results.json")),
  }
  store.write(ctx:path "run.json", record)
  return record
end

local function print_run(r, ctx, record, cached)
  local note = ""
  if cached then
    local build = record.stamp.build ~= system.build and " by another build" or ""
    note = ("  (finished %s%s; --force runs it again)"):format(record.finished, build)
  end
  local columns = machine.terminal_size(1)
  io.write(help.folded(r.name .. "  " .. ctx.folder .. note, 2, columns), "\n")
  local widest = 4
  for _, j in ipairs(record.claims) do widest = math.max(widest, #j.id) end
  for _, j in ipairs(record.claims) do
    local line = ("  %-" .. widest .. "s %-15s %s: %s"):format(j.id, j.verdict, j.text, claims.measured(j))
    io.write(help.folded(line, widest + 19, columns), "\n")
  end
  for _, figure in ipairs(record.figures) do io.write("  figure ", ctx:path(figure), "\n") end
  io.write("  report ", ctx:path "report.md", "\n")
end

local function state_of(folder)
  if system.exists(folder .. "/run.json") then return "finished" end
  if system.exists(folder .. "/results.json") then return "results, no figures" end
  if system.exists(folder .. "/log.jsonl") then return "begun" end
  return "new"
end

--- The cost of one run as the recipe plans it, and what the speed of this machine's products would make of it.
local function print_plan(r, p)
  local plan = r.plan and r.plan(p)
  if not plan then return end
  local text = plan.note or plan.flops and ("%.3g FLOP"):format(plan.flops)
  if text then io.write("  cost   of each run: ", text, "\n") end
  if plan.flops then
    local rate = require("quench.c.machine").probe_sgemm(1024, 2) * 1e9
    io.write(("  here   products run at %.0f GFLOP/s: %s at best\n"):format(rate / 1e9, units.seconds(plan.flops / rate, 2)))
  end
  if plan.bytes then io.write("  memory ", units.bytes(plan.bytes), "\n") end
end

local function list_runs(r, p, o)
  for i = 1, o.seeds do
    local seeded = with_seed(p, p.seed + i - 1)
    local folder = folder_of(r, seeded, 1, o)
    io.write(("%d  seed %d  %s  %s (%s)\n"):format(i, seeded.seed, folder, report.arguments(r, seeded), state_of(folder)))
  end
  print_plan(r, p)
end

--- Parameters and flags of the one run that --index names. Its folder is that of the same seed in the
-- whole sweep, which finds it finished there.
local function only(p, o)
  if o.index > o.seeds then
    error(("--index=%d: there %s; --seeds=N says how many"):format(o.index, o.seeds == 1 and "is 1 run" or "are " .. o.seeds .. " runs"), 0)
  end
  return with_seed(p, p.seed + o.index - 1), with(o, "seeds", 1)
end

--- Runs a recipe with checked parameters and flags. Returns the record of run.json with results and folder;
-- nil, "busy" where --index names a run that another process has in work, which is no failure of this one.
function runner.perform(r, p, o)
  if o.list then return list_runs(r, p, o) end
  if o.index then p, o = only(p, o) end
  local content, ctx, fresh = run_seeds(r, p, o)
  if not content then
    io.write(r.name, "  ", ctx.folder, "  (another process is working in it; nothing to do)\n")
    return nil, "busy"
  end
  local cached = not fresh and system.exists(ctx:path "run.json")
  local record = cached and store.read(ctx:path "run.json") or present(r, p, content, ctx, o)
  print_run(r, ctx, record, cached)
  record.folder, record.runs, record.cached = ctx.folder, content.runs, cached
  return record
end

return runner
