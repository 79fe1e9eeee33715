--- trajectory.lua - q.trajectory: loss and quantization error along the checkpoints of a run.
--
-- The figure of "Training Dynamics Impact Post-Training Quantization Robustness" (2025, Figs. 1, 2, 7): for each
-- checkpoint the loss of the model and of its quantized twins, their relative error, and the learning rate. Averages of
-- checkpoints (LAWA windows, soups) are further points. Each point is kept as soon as it is measured.

local q = require "quench"
local help = require "quench.help"
local json = require "quench.json"
local options = require "quench.options"
local runs = require "quench.trajectory.runs"
local settings = require "quench.quant.settings"

local M = {runs = runs}

-- ---- where on the axis ----------------------------------------------------

local UNIT = {k = 1e3, M = 1e6, B = 1e9, T = 1e12}

--- Step and stage of a revision of a known run.
local function by_run(run, name)
  for _, stage in ipairs(run.stages) do
    local step = tonumber(name:match(stage[1]))
    if step then
      local own = step * (stage.scale or 1)
      local total = own + (stage.after or 0)
      return {
        step = total, tokens = run.tokens_per_step and total * run.tokens_per_step or nil, rate = stage.rate and stage.rate(own) or nil,
        config = stage.config, ingredient = stage.ingredient,
      }
    end
  end
end

--- Step and tokens from a name like step143000, stage1-step40000-tokens84B, checkpoint-500, iter_0058000.
local function by_name(name)
  local step, unit = name:match("step[-_]?(%d+)(k?)")
  if not step then step, unit = name:match("(%d+)(k?)$") end
  local tokens, of = name:match("tokens[-_]?(%d+)([MBT])")
  return {
    step = step and tonumber(step) * (UNIT[unit] or 1) or nil, tokens = tokens and tonumber(tokens) * UNIT[of] or nil,
  }
end

--- Step and learning rate from a trainer_state.json beside the weights.
local function by_trainer(folder)
  local path = folder .. "/trainer_state.json"
  if not q.system.exists(path) then return {} end
  local state, rate = json.read(path), nil
  for _, entry in ipairs(state.log_history or {}) do
    if entry.learning_rate and entry.step <= state.global_step then rate = entry.learning_rate end
  end
  return {step = state.global_step, rate = rate}
end

--- Rows of a table with a head line: name, step, tokens, rate, separated by commas or tabs.
local function by_table(path)
  local rows, head = {}, nil
  for line in (q.system.read_file(path) .. "\n"):gmatch("(.-)\r?\n") do
    if line:find("%S") then
      local cells = {}
      for cell in (line .. ","):gsub("\t", ","):gmatch("%s*(.-)%s*,") do cells[#cells + 1] = cell end
      if not head then head = cells else
        local row = {}
        for i, key in ipairs(head) do row[key] = tonumber(cells[i]) or cells[i] end
        rows[row.name or row.folder or "?"] = {step = row.step, tokens = row.tokens, rate = row.rate or row.lr}
      end
    end
  end
  return rows
end

--- q.trajectory.place(folder, run?, rows?) -> {name=, path=, step=, tokens=, rate=, config=}: what is known of a checkpoint.
-- A table wins over the run, the run over trainer_state.json, that over the name.
function M.place(folder, run, rows)
  local name = folder:match("([^/]+)/*$")
  local point = {name = name, path = folder}
  local function take(from)
    for key, value in pairs(from or {}) do
      if point[key] == nil then point[key] = value end
    end
  end
  take(rows and rows[name])
  take(run and by_run(run, name))
  take(by_trainer(folder))
  take(by_name(name))
  return point
end

-- ---- folders --------------------------------------------------------------

--- Folders that a pattern with * and ? in it names, sorted; a name without them is itself.
function M.glob(pattern)
  local found = {pattern:sub(1, 1) == "/" and "/" or ""}
  for part in pattern:gmatch("[^/]+") do
    local next_found = {}
    local lua = "^" .. part:gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0"):gsub("%*", ".*"):gsub("%?", ".") .. "$"
    for _, base in ipairs(found) do
      if not part:find("[%*%?]") then
        next_found[#next_found + 1] = base .. part
      elseif q.system.kind(base == "" and "." or base) == "folder" then
        for _, name in ipairs(q.system.list(base == "" and "." or base)) do
          if name:sub(1, 1) ~= "." and name:find(lua) then next_found[#next_found + 1] = base .. name end
        end
      end
    end
    found = {}
    for i, path in ipairs(next_found) do found[i] = path .. "/" end
  end
  local out = {}
  for _, path in ipairs(found) do
    path = path:gsub("(.)/$", "%1")
    if q.system.kind(path) == "folder" and q.system.exists(path .. "/config.json") then out[#out + 1] = path end
  end
  table.sort(out)
  return out
end

-- ---- measuring ------------------------------------------------------------

local spec = options.spec("q.trajectory.measure", {
  {"text", "string|tensor", required = true, doc = "text or token ids to measure the loss on"},
  {"tokenizer", "table", doc = "for a text"},
  {"block", "integer", default = 2048, min = 2, doc = "tokens the model sees at a time", unit = "tokens"},
  {"limit", "integer", min = 1, doc = "blocks, at most"},
  {"bits", "list", doc = "bits a weight, one curve each [3, 4; one curve without bits where quantize has a format or the method its own]"},
  {"quantize", "table", default = {}, doc = "further options of q.quant.quantize: method, group, calibration = ids, ..."},
  {"run", "string", doc = "one of q.trajectory.runs: its steps, learning rate and configuration"},
  {"table", "string", doc = "a file with name, step, tokens, rate a line, where names do not tell"},
  {"lawa", "integer", min = 2, doc = "also the mean of each this many checkpoints in a row"},
  {"soup", "string", doc = "also the mean of all checkpoints whose name matches this Lua pattern", check = options.pattern_check "soup"},
  {"out", "string", doc = "a folder that keeps what is done, so that an interrupted walk goes on"},
  {"disk", "boolean", default = false, doc = "block by block through files, for models larger than memory"},
  {"progress", "function", doc = "called as progress(point) after each"},
})

local function loss_of(model, o)
  return q.eval.text(model, o.text, {tokenizer = o.tokenizer, block = o.block, limit = o.limit}).loss
end

--- The curves to be measured: numbers of bits, or the name of the one format or method that has no bits to choose.
function M.curves(bits, quantize)
  local f, method = quantize.format, quantize.method or "gptq"
  local name = f and (type(f) == "string" and f or q.quant.format(f):describe().name)
    or not require("quench.quant.model").spec_of(method).by_name.bits and method or nil
  if bits and name then options.fail("q.trajectory: bits and %s exclude each other", f and "format" or "method " .. method) end
  for _, b in ipairs(bits or {}) do
    local wrong = options.complaint({"bits", "integer", min = 1, max = 8}, b)
    if wrong then options.fail("q.trajectory: %s", wrong) end
  end
  return name and {name} or bits and bits[1] and bits or {3, 4}
end

local function quantize_options(o, bits)
  local given = {}
  for key, value in pairs(o.quantize) do given[key] = value end
  if type(bits) == "number" then given.bits = bits end
  return given
end

--- A curve's name in figures and tables.
function M.label(bits) return type(bits) == "number" and ("%g bits"):format(bits) or tostring(bits) end

local function remove(folder) os.execute(("rm -rf '%s'"):format((folder:gsub("'", "'\\''")))) end

--- A folder for a model that is only measured: in `out`, where an interrupted run finds it again.
local function work_folder(o, label)
  if o.out then return ("%s/work-%s"):format(o.out, label) end
  local path = os.tmpname()
  os.remove(path)
  return path
end

--- Losses of one model on disk and of its quantized twins: {loss =, bits = {["3"] = {loss =, error =}}}.
local function damage(folder, config, o)
  return q.scope(function()
    local model = q.models.load(folder, {lazy = o.disk, frozen = true, config = config})
    local result = {loss = loss_of(model, o), bits = {}}
    for _, bits in ipairs(o.bits) do
      local quantized
      if o.disk then
        local work = work_folder(o, ("%s-%s"):format(folder:match("([^/]+)/*$"), tostring(bits)))
        local given = quantize_options(o, bits)
        given.config = config
        q.disk.quantize(folder, work, given)
        quantized = loss_of(q.models.load(work, {lazy = true}), o)
        remove(work)
      else
        quantized = q.scope(function() return loss_of(q.quant.quantize(model, quantize_options(o, bits)), o) end)
      end
      result.bits[tostring(bits)] = {loss = quantized, error = q.eval.relative_ce(result.loss, quantized)}
    end
    return result
  end)
end

--- Averages to be measured: {name=, folders=, at = the point they belong to, kind=}.
local function averages(points, o)
  local list = {}
  if o.lawa then
    if o.lawa > #points then options.fail("q.trajectory: lawa = %d, but there are %d checkpoints", o.lawa, #points) end
    for i = o.lawa, #points do
      local folders = {}
      for k = i - o.lawa + 1, i do folders[#folders + 1] = points[k].path end
      list[#list + 1] = {name = ("lawa%d-%s"):format(o.lawa, points[i].name), folders = folders, at = points[i], kind = "lawa"}
    end
  end
  if o.soup then
    local folders, last = {}, nil
    for _, p in ipairs(points) do
      if p.name:find(o.soup) then folders[#folders + 1], last = p.path, p end
    end
    if #folders < 2 then options.fail("q.trajectory: soup '%s' matches %d checkpoints; two or more are needed", o.soup, #folders) end
    list[#list + 1] = {name = "soup", folders = folders, at = last, kind = "soup"}
  end
  return list
end

--- What was measured before, by key. The file holds one JSON object a line; a line that was cut short (a kill, a full disk) is dropped.
local function remembered(o)
  local done, path = {}, o.out and o.out .. "/points.jsonl"
  if not path or not q.system.exists(path) then return done, path end
  local whole, text = {}, q.system.read_file(path)
  for line in text:gmatch("[^\n]+") do
    local ok, record = pcall(json.decode, line)
    if ok and type(record) == "table" and type(record.key) == "string" and type(record.result) == "table" then
      done[record.key] = record.result
      whole[#whole + 1] = line .. "\n"
    end
  end
  whole = table.concat(whole)
  if whole ~= text then q.system.write_file(path, whole) end
  return done, path
end

--- Everything that a result depends on, as a text.
local function key_of(name, folders, config, o)
  local contents = {}
  for i, folder in ipairs(folders) do contents[i] = folder .. " " .. settings.folder(folder) end
  local text = type(o.text) == "string" and q.system.sha256(o.text) or settings.text(o.text)
  return ("%s; %s; %s; %s; %s %s; %s; %s"):format(name, table.concat(contents, ", "), json.encode(config or {}), text, o.block, tostring(o.limit),
    table.concat(o.bits, ","), o.settings)
end

local function measured(name, folders, config, o, done, path, measure)
  local key = key_of(name, folders, config, o)
  if done[key] then return done[key] end
  local result = measure()
  if path then q.system.append_file(path, json.encode{key = key, result = result} .. "\n") end
  return result
end

local function by_place(a, b)
  local x, y = a.tokens or a.step or 0, b.tokens or b.step or 0
  if x ~= y then return x < y end
  return a.name < b.name
end

--- q.trajectory.measure(folders, options) -> {points =, averages =, ...}
function M.measure(folders, given)
  local o = spec(given)
  o.bits = M.curves(o.bits, o.quantize)
  o.settings = settings.of(o.quantize)
  if type(folders) == "string" then folders = M.glob(folders) end
  if #folders == 0 then options.fail("q.trajectory: no folder with a config.json") end
  local run = o.run and (runs[o.run] or options.fail("q.trajectory: no run '%s'%s", o.run, options.suggest(o.run, M.names())))
  local rows = o.table and by_table(o.table)
  if o.out then q.system.make_directories(o.out) end
  local points, done, path = {}, remembered(o)
  for i, folder in ipairs(folders) do
    points[i] = M.place(folder, run, rows)
    if rows and not rows[points[i].name] then options.fail("q.trajectory: '%s' has no row for '%s'", o.table, points[i].name) end
  end
  table.sort(points, by_place)
  local wanted = averages(points, o)
  local function finish(point, result)
    for key, value in pairs(result) do point[key] = value end
    if o.progress then o.progress(point) end
    q.system.check_interrupt()
  end
  for _, p in ipairs(points) do
    finish(p, measured(p.name, {p.path}, p.config, o, done, path, function() return damage(p.path, p.config, o) end))
  end
  local extra = {}
  for i, a in ipairs(wanted) do
    extra[i] = {name = a.name, kind = a.kind, step = a.at.step, tokens = a.at.tokens, rate = a.at.rate, of = #a.folders}
    finish(extra[i], measured(a.name, a.folders, a.at.config, o, done, path, function()
      local work = work_folder(o, a.name)
      q.disk.average(a.folders, work)
      local result = damage(work, a.at.config, o)
      remove(work)
      return result
    end))
  end
  return {points = points, averages = extra, bits = o.bits, run = o.run}
end

--- The names of the known runs, sorted.
function M.names()
  local list = {}
  for name in pairs(runs) do list[#list + 1] = name end
  table.sort(list)
  return list
end

-- ---- the figure -----------------------------------------------------------

--- The axis that all points have: tokens in billions, steps in thousands, or their order.
local function axis_of(points)
  local key, label, scale = "tokens", "tokens (billions)", 1e9
  for _, p in ipairs(points) do
    if not p.tokens then key, label, scale = "step", "step (thousands)", 1e3 end
  end
  for _, p in ipairs(points) do
    if not p[key] then key, label, scale = nil, "checkpoint", 1 end
  end
  return function(p, i) return key and p[key] / scale or i end, label
end

local function curve(points, at, pick, style)
  local layer = {style.kind or "line", x = {}, y = {}}
  for i, p in ipairs(points) do
    local y = pick(p)
    if y then layer.x[#layer.x + 1], layer.y[#layer.y + 1] = at(p, i), y end
  end
  for key, value in pairs(style) do
    if key ~= "kind" then layer[key] = value end
  end
  return layer
end

--- Layers of one quantity: the checkpoints as a line, each kind of average as points.
local function add_quantity(panel, result, at, pick, label, colour)
  panel[#panel + 1] = curve(result.points, at, pick, {label = label, colour = colour, marker = "circle"})
  for _, kind in ipairs{"lawa", "soup"} do
    local these = {}
    for _, a in ipairs(result.averages) do
      if a.kind == kind then these[#these + 1] = a end
    end
    if #these > 0 then
      panel[#panel + 1] = curve(these, at, pick,
        {kind = "points", colour = colour, marker = kind == "soup" and "star" or "up", label = label .. ", " .. kind})
    end
  end
end

--- q.trajectory.figure(result) -> figure: loss above, error below, the learning rate dotted on the right.
function M.figure(result)
  local at, label = axis_of(result.points)
  local losses, errors = {x = label, y = "loss (nats a token)"}, {x = label, y = "relative CE (%)"}
  local rated = curve(result.points, at, function(p) return p.rate end,
    {axis = "y2", dash = "dotted", marker = false, colour = "grey", width = 0.8})
  if #rated.x > 1 then
    errors.y2 = "learning rate"
    errors[1] = rated
  end
  add_quantity(losses, result, at, function(p) return p.loss end, "full precision", 1)
  for i, bits in ipairs(result.bits) do
    local key, name = tostring(bits), M.label(bits)
    add_quantity(errors, result, at, function(p) return 100 * p.bits[key].error end, name, i + 1)
    add_quantity(losses, result, at, function(p) return p.bits[key].loss end, name, i + 1)
  end
  return q.plot.grid{columns = 1, share = "x", losses, errors}
end

help.add{"q.trajectory.measure", M.measure, "measure(folders or pattern, options) -> {points=, averages=, bits=}",
  "Loss and quantization error of each checkpoint of a run, and of averages of them.", options = spec,
  text = [[
A point has name, path, step, tokens, rate (learning rate), loss, and bits[b] = {loss=, error=} with b as a text. Step and rate come from
`table`, else from the known run, else from trainer_state.json, else from the name.]],
  source = "Catalan-Tatjer, Ajroldi and Geiping, 2025, Figs. 1, 2 and 7", example = [[
local r = q.trajectory.measure("pythia-160m/*",
  {run = "pythia-160m", text = text, tokenizer = tok, bits = {3, 4}, quantize = {method = "rtn"}})
q.trajectory.figure(r):save("trajectory.png")]], see = {"q.trajectory.figure", "q.eval.relative_ce", "q.disk.average"}}
help.add{"q.trajectory.figure", M.figure, "figure(result) -> figure",
  "Loss and error along the checkpoints; the learning rate dotted, averages as marks.",
  example = 'q.trajectory.figure(r):save("trajectory.png")', see = {"q.trajectory.measure"}}
help.add{"q.trajectory.curves", M.curves, "curves(bits or nil, quantize) -> list",
  "What is measured of each checkpoint: numbers of bits, or the name of a format, or of a method whose bits are its own.",
  errors = "bits beside such a format or method", example = 'q.trajectory.curves(nil, {format = "nf4"})', see = {"q.trajectory.label"}}
help.add{"q.trajectory.label", M.label, "label(bits) -> text", "A curve's name in figures and tables.", example = "q.trajectory.label(3)",
  see = {"q.trajectory.curves"}}
help.add{"q.trajectory.place", M.place, "place(folder, run?, rows?) -> {name=, path=, step=, tokens=, rate=, config=}",
  "What is known of a checkpoint.", example = 'q.trajectory.place("step1000", q.trajectory.runs["pythia-160m"]).rate',
  see = {"q.trajectory.runs"}}
help.add{"q.trajectory.glob", M.glob, "glob(pattern) -> list", "Models' folders that a pattern with * and ? names, sorted.",
  example = 'q.trajectory.glob "pythia-160m/step*"', see = {"q.trajectory.measure"}}
help.add{"q.trajectory.names", M.names, "names() -> list", "The names of the known runs, sorted.",
  example = "print(table.concat(q.trajectory.names(), ' '))", see = {"q.trajectory.runs"}}
help.add{"q.trajectory.runs", M.runs, "runs: name -> {hub=, family=, revisions=, stages=, tokens_per_step=}",
  "The public training runs that the paper walks along.", example = "for name in pairs(q.trajectory.runs) do print(name) end",
  see = {"q.trajectory.place"}}

return M
