--- trajectory.lua - where along a training run does quantization begin to hurt?
--
-- Figures 1 to 3 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): loss, quantized loss and error along the
-- published checkpoints of a run, with the learning rate. Give folders of downloaded checkpoints (Hugging Face layout) and,
-- if it is one of q.trajectory.runs, the name of the run:
--
--   quench run trajectory --folders='OLMo-2-0425-1B/*' --run=olmo2-1b --context=2048
--
-- Without folders the walk is along our own trunk and its last cooldown, saved in the same layout.

local q = require "quench"
local lab = q.lab

local function plan(p) return lab.plan(p, p.folders == "" and p.steps + p.cooldown or 0) end

--- Saves our own checkpoints as models, with a table of their rates: folders, the table's path.
local function export(p, ctx, data)
  local _, trunk = lab.trunk(ctx, p, data)
  local _, cooled = lab.cooled(ctx, p, data, trunk, p.steps, ("cooldown %d of %d"):format(p.budgets, p.budgets))
  local folders, rows = {}, {"name,step,tokens,rate"}
  local function add(folder, step, rate)
    local name = "step" .. step
    folders[#folders + 1] = ctx:path("models/" .. name)
    q.scope(function() q.train.checkpoint.model(q.train.checkpoint.path(folder, step)):save(lab.last(folders)) end)
    rows[#rows + 1] = ("%s,%d,%d,%.9g"):format(name, step, step * p.batch * p.context, rate)
  end
  for _, k in ipairs(lab.spaced(p.steps / p.spread / p.every, math.floor(p.steps / p.every), p.points)) do
    add(trunk, k * p.every, p.lr)
  end
  for _, step in ipairs(lab.inside(p.steps, p.cooldown)) do add(cooled, step, p.lr * (p.steps + p.cooldown - step) / p.cooldown) end
  q.system.write_file(ctx:path "models/table.csv", table.concat(rows, "\n") .. "\n")
  return folders, ctx:path "models/table.csv"
end

--- Validation and calibration ids by the tokenizer of given checkpoints.
local function tokens(p, data, folder)
  local tokenizer = q.tokenizer.load(folder .. "/tokenizer.json")
  local held = tokenizer:encode(data:text("validation"):sub(1, 8 * p.eval_tokens), {tensor = true})
  local wanted = p.calibration * p.context
  local train = tokenizer:encode(data:text("train"):sub(1, 8 * wanted), {tensor = true})
  return held:narrow(1, 1, math.min(p.eval_tokens, held:numel())), train:narrow(1, 1, wanted):view(p.calibration, p.context)
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local folders, rows, held, calibration
  if p.folders == "" then
    folders, rows = export(p, ctx, data)
    held, calibration = data:tokens("validation"):narrow(1, 1, p.eval_tokens), lab.calibration(data, p, p.seed)
  else
    folders = q.trajectory.glob(p.folders)
    if #folders == 0 then error(("no folder with a config.json matches '%s'"):format(p.folders), 0) end
    held, calibration = tokens(p, data, folders[1])
  end
  local found = q.trajectory.measure(folders, {text = held, block = p.context, run = p.run ~= "" and p.run or nil, table = rows,
    quantize = {method = "gptq", group = p.group, calibration = calibration}, lawa = p.lawa > 1 and p.lawa or nil,
    progress = function(point) ctx:log{name = point.name, loss = point.loss} end})
  for _, list in ipairs{found.points, found.averages} do
    for _, point in ipairs(list) do point.path, point.config = nil, nil end -- results do not hang on where the files lie
  end
  return found
end

--- The first and last point at the peak rate, and the last of all; nil and why if the rates do not tell.
local function stages(result)
  local peak = 0
  for _, point in ipairs(result.points) do peak = math.max(peak, point.rate or 0) end
  local first, before
  for _, point in ipairs(result.points) do
    if point.rate and point.rate > 0.99 * peak then first, before = first or point, point end
  end
  if not first or first == before or before == lab.last(result.points) then return nil, "no constant rate with a decay behind it" end
  return first, before, lab.last(result.points)
end

--- A measure of those three.
local function of_stages(fn)
  return function(result)
    local first, before, last = stages(result)
    if not first then return nil, before end
    return fn(first.bits, before.bits, last.bits, before.loss - last.loss)
  end
end

local function jump(bits)
  return of_stages(function(_, before, last) return lab.contrast(last[bits].error, before[bits].error) end)
end

local drift = of_stages(function(first, before) return lab.contrast(before["3"].error, first["3"].error) end)

--- The fall of the 3-bit loss in the decay over that of the loss.
local gain = of_stages(function(_, before, last, fall)
  if not (fall > 0) then return nil, "the loss does not fall in the decay" end
  return (before["3"].loss - last["3"].loss) / fall
end)

local SOURCE = "Training Dynamics, Fig. 1 (SmolLM3): "

return q.recipe{
  name = "trajectory",
  doc = "Where along a training run does quantization begin to hurt?",
  params = lab.trunk_params{
    {"folders", "string", default = "", doc = "pattern of checkpoints' folders, in quotes; empty: our own run"},
    {"run", "string", default = "", doc = "the name of a published run, for its steps and rates (q.trajectory.names())"},
    {"lawa", "integer", default = 0, min = 0, doc = "also the mean of each this many checkpoints in a row; 0: none"},
  },
  scales = lab.trunk_scales(),
  run = run, plan = plan,
  figures = {trajectory = function(runs) return q.trajectory.figure(runs[1]) end, paper = function()
    return q.plot.grid{columns = 1, lab.paper_panel("trajectory, losses", "auto"), lab.paper_panel("trajectory, errors", "auto")}
  end},
  claims = {
    {"C1", "the 3-bit error jumps while the rate decays: end against start, difference over sum (half of the paper's)",
      measure = jump "3", above = 0.16, source = SOURCE .. "4.73e-2 to 9.1e-2"},
    {"C1, 4 bits", "the same at 4 bits", measure = jump "4", above = 0.16, source = SOURCE .. ".95e-2 to 1.81e-2"},
    {"C1, flat", "along the constant rate it hardly grows: last against first", measure = drift, below = 0.1,
      source = SOURCE .. "4.24e-2 to 4.73e-2"},
    {"C1, gain", "less than half of what the decay gains in full precision is left at 3 bits: share", measure = gain, below = 0.5,
      source = SOURCE .. ".10 nats, and none at 3 bits"},
  },
}
