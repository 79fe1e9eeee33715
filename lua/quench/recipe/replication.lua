--- quench replication: a table with a row a claim, from the run.json of the finished runs below out/.
--
-- Of the runs with equal parameters, whatever their seed, the one with the most seeds counts, then the newest.
-- A run counts only if its folder is the one that the recipe as it is now would have: the folder's name is a
-- hash of the recipe's text, its parameters and Quench's version, so results of an older text fall out.

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
  {"write", "string", doc = "write a page there, with its figures in a folder of the same name, instead of a table to stdout"},
  {"scale", "string", doc = "only runs of this scale"},
  {"help", "boolean", default = false, doc = "this text"},
})

-- ---- which runs ------------------------------------------------------------------------

local function seedless(parameters)
  local out = {}
  for key, value in pairs(parameters) do
    if key ~= "seed" then out[key] = value end
  end
  return json.encode(out)
end

--- The recipe that made a record, as its text is now: by name, or by the path of its file; nil if neither is there.
local function recipe_of(record)
  local path = record.path ~= nil and record.path or record.recipe
  local good, r = pcall(require("quench.recipe").load, path)
  return good and r.name == record.recipe and r or nil
end

local function better(a, b)
  if not b or a.seeds ~= b.seeds then return not b or a.seeds > b.seeds end
  return a.finished > b.finished
end

--- All records of run.json below a folder, each with its folder.
local function records(out)
  local list = {}
  for _, name in ipairs(system.list(out) or {}) do
    for _, hash in ipairs(system.list(out .. "/" .. name) or {}) do
      local folder = ("%s/%s/%s"):format(out, name, hash)
      local record = store.read(folder .. "/run.json")
      if record then
        record.folder = folder
        list[#list + 1] = record
      end
    end
  end
  return list
end

--- The records to show, in order of recipe and parameters, and how many are of an older recipe text or version.
local function current(out)
  local best, keys, old = {}, {}, 0
  for _, record in ipairs(records(out)) do
    local r = recipe_of(record)
    if r and runner.folder(r, record.parameters, record.seeds, out) == record.folder then
      local key = record.recipe .. " " .. seedless(record.parameters)
      if not best[key] then keys[#keys + 1] = key end
      record.declared = r
      if better(record, best[key]) then best[key] = record end
    else
      old = old + 1
    end
  end
  table.sort(keys)
  for i, key in ipairs(keys) do keys[i] = best[key] end
  return keys, old
end

--- The name of the scale with these parameters ("-" for none), and the command that repeats the run.
local function origin(record)
  local r = record.declared
  local seeds = record.seeds > 1 and " --seeds=" .. record.seeds or ""
  local name = r.path or r.name
  for _, scale in ipairs(runner.sorted_keys(r.scales)) do
    if seedless(r.spec(r.scales[scale])) == seedless(record.parameters) then
      local seed = record.parameters.seed ~= 1 and " --seed=" .. record.parameters.seed or ""
      return scale, ("`quench run %s --scale=%s%s%s`"):format(name, scale, seed, seeds)
    end
  end
  return "-", ("`quench run %s %s%s`"):format(name, report.arguments(r, record.parameters), seeds)
end

-- ---- the table -------------------------------------------------------------------------

--- The verdict for people: one seed, judged by its value alone, says so.
local function verdict_of(j)
  if j.verdict == "not decidable" then return "not decidable here" end
  return j.verdict .. (j.reason == claims.ONE_SEED and ", one seed" or "")
end

local HEAD = {"recipe", "claim", "the paper", "found here", "true where", "verdict", "scale", "seeds", "figure", "command", "minutes"}

local function row(list)
  for i, cell in ipairs(list) do list[i] = tostring(cell):gsub("|", "\\|"):gsub("\n", " ") end
  return "| " .. table.concat(list, " | ") .. " |\n"
end

--- The rows of a record. figure_of(record, file) -> what a row says of a figure.
local function rows(record, figure_of)
  local scale, command = origin(record)
  local figures, out = {}, {}
  for i, file in ipairs(record.figures) do figures[i] = figure_of(record, file, scale) end
  for i, j in ipairs(record.claims) do
    out[i] = row{record.recipe, j.id .. ": " .. j.text, j.source or "-", claims.measured(j), j.region, verdict_of(j),
      scale, record.seeds, #figures > 0 and table.concat(figures, ", ") or "-", command, ("%.1f"):format(record.seconds / 60)}
  end
  return out
end

local function table_text(list, figure_of, scale)
  local rule = {}
  for i in ipairs(HEAD) do rule[i] = "---" end
  local lines = {row{unpack(HEAD)}, row(rule)}
  for _, record in ipairs(list) do
    if not scale or origin(record) == scale then
      for _, line in ipairs(rows(record, figure_of)) do lines[#lines + 1] = line end
    end
  end
  return table.concat(lines), #lines - 2
end

-- ---- the page --------------------------------------------------------------------------

local PAPERS = {{"Training Dynamics", "Training Dynamics (arXiv 2510.06213)"}, {"Beyond Outliers", "Beyond Outliers (arXiv 2509.23500)"},
  {"", "other papers, and questions of this project"}}

--- Which of PAPERS a claim is of: the first that its source begins with.
local function paper_of(j)
  for i, paper in ipairs(PAPERS) do
    if (j.source or ""):find(paper[1], 1, true) == 1 or paper[1] == "" then return i end
  end
end

--- How many claims of each paper got each verdict.
local function summary(list)
  local counts, kinds = {}, {"holds", "holds, one seed", "does not hold", "does not hold, one seed", "not decidable here"}
  for i in ipairs(PAPERS) do counts[i] = {} end
  for _, record in ipairs(list) do
    for _, j in ipairs(record.claims) do
      local of, verdict = counts[paper_of(j)], verdict_of(j)
      of[verdict] = (of[verdict] or 0) + 1
    end
  end
  local lines = {row{"claims of", unpack(kinds)}, "| --- |" .. (" --- |"):rep(#kinds) .. "\n"}
  for i, paper in ipairs(PAPERS) do
    local cells = {paper[2]}
    for k, kind in ipairs(kinds) do cells[k + 1] = counts[i][kind] or 0 end
    lines[#lines + 1] = row(cells)
  end
  return table.concat(lines) .. "\n"
end

--- What was run: each recipe's question, settings and planned cost.
local function runs_table(list)
  local lines = {"\n## Runs\n\n", row{"recipe", "question", "scale", "settings that are not the default", "planned cost of a seed", "finished"},
    "| --- | --- | --- | --- | --- | --- |\n"}
  for _, record in ipairs(list) do
    local r = record.declared
    local plan = r.plan and r.plan(record.parameters)
    lines[#lines + 1] = row{record.recipe, r.doc, (origin(record)), report.arguments(r, record.parameters), plan and plan.note or "-",
      record.finished:sub(1, 10)}
  end
  return table.concat(lines)
end

local INTRODUCTION = [[
# What the papers found, and what we found

Made by `quench replication` from the results of finished runs, not written by hand; `make replication` makes it again from `out/`.
One row a claim. "The paper": where it stands, with the paper's numbers. "Found here": mean and 95 % interval over seeds (Student's),
or over the recipe's own resampling. A claim holds if the whole interval lies where it is true, does not hold if the whole interval lies
outside, and is not decidable here otherwise; one seed is judged by its value alone and says so. Nothing is corrected for the number of
claims. Models here are far smaller than the papers': "Runs", at the end, has their settings. Minutes are those of all seeds on the
machine named below; work that a recipe found done by another is counted there.

]]

--- The machines on which the runs were made.
local function machines(list)
  local seen, lines = {}, {}
  for _, record in ipairs(list) do
    local s = record.stamp
    local text = ("%s, %d threads, Quench %s, OpenBLAS %s (%s kernels)"):format(s.processor, s.threads, s.quench, s.openblas, s.blas_core)
    if not seen[text] then lines[#lines + 1] = "- " .. text end
    seen[text] = true
  end
  return #lines > 0 and "\nMachines:\n" .. table.concat(lines, "\n") .. "\n" or ""
end

--- Writes the page, and its figures into the folder beside it. Returns how many rows it has.
local function write_page(path, all, scale)
  local list = {}
  for _, record in ipairs(all) do
    if not scale or origin(record) == scale then list[#list + 1] = record end
  end
  local folder = path:gsub("%.md$", "")
  if folder == path then error(("--write=%s: the page's name ends in .md"):format(path), 0) end
  local function figure_of(record, file, run_scale)
    local hash = record.folder:match("[^/]+$")
    local name = ("%s-%s-%s"):format(record.recipe, run_scale ~= "-" and run_scale or hash:sub(1, 6), file)
    system.make_directories(folder)
    system.write_file(folder .. "/" .. name, system.read_file(record.folder .. "/" .. file))
    return ("[%s](%s/%s)"):format(file:gsub("%.png$", ""), folder:match("[^/]+$"), name)
  end
  local text, count = table_text(list, figure_of)
  system.write_file(path, INTRODUCTION .. summary(list) .. text .. runs_table(list) .. machines(list))
  return count
end

--- quench replication [--out=DIR] [--scale=NAME] [--write=PAGE.md]
function replication.main(list)
  local o = replication.flags(require("quench.recipe.arguments").parse(list, replication.flags))
  if o.help then
    io.write("quench replication: a table with a row a claim, from the finished runs below --out\n\noptions:\n")
    io.write(require("quench.help").options(replication.flags, (require("quench.c.machine").terminal_size(1))), "\n")
    return
  end
  local found, old = current(o.out)
  local count
  if o.write then
    count = write_page(o.write, found, o.scale)
    io.write(("%s: %d claims\n"):format(o.write, count))
  else
    local text
    text, count = table_text(found, function(record, file) return record.folder .. "/" .. file end, o.scale)
    io.write(text)
  end
  if old > 0 then
    io.stderr:write(("quench: left out %d results of an older recipe text or version, or of a file that is not there\n"):format(old))
  end
  if count == 0 then
    io.stderr:write(("quench: no claims of finished runs below %s%s\n"):format(o.out, o.scale and " at scale " .. o.scale or ""))
  end
end

return replication
