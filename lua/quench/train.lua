--- train.lua - q.train{...}: the training loop, with checkpoints, forks, probes and a log.
--
-- A step is: a batch from the data stream, loss, gradients, clip, optimizer with the
-- schedule's factor. All that the next step depends on (parameters, optimizer state, position
-- in the data, step number) is in a checkpoint, so a resumed run equals an uninterrupted one
-- bit for bit, and a fork (from = checkpoint) goes on from there under another schedule.

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"
local checkpoint = require "quench.train.checkpoint"
local evaluate = require "quench.train.evaluate"

local train = {checkpoint = checkpoint, evaluate = evaluate.evaluate}

local spec = options.spec("q.train", {
  {"model", "table", required = true, doc = "a model of q.models, or anything with :loss(ids), :named_parameters()"},
  {"data", "table", required = true, doc = "an object with :batch(split, B, T, stream), such as q.data.text"},
  {"optim", "function|table", required = true, doc = "an optimizer, or function(named_parameters) -> optimizer"},
  {"schedule", "function", doc = "step (from 1) -> factor of the learning rate [1]"},
  {"steps", "integer", required = true, min = 0, doc = "the last step"},
  {"batch", "integer", default = 8, min = 1, doc = "sequences a step", unit = "sequences"},
  {"context", "integer", default = 128, min = 2, doc = "tokens a sequence", unit = "tokens"},
  {"precision", "string", default = "f32", choices = {"f32", "bf16"}, doc = "of the matrix products of forward and backward pass"},
  {"recompute", "boolean", default = false,
    doc = "activation checkpointing: the backward pass makes each block's inner values again; the same bits, less memory, more time"},
  {"accumulate", "integer", default = 1, min = 1, doc = "batches whose mean gradient makes a step"},
  {"seed", "integer", default = 0, doc = "of the data order"},
  {"loss", "function", doc = "function(model, ids) -> scalar tensor [model:training_loss(ids), or model:loss(ids) where there is none]"},
  {"eval_every", "integer", default = 0, min = 0, doc = "steps between evaluations; 0: at the end only"},
  {"eval_tokens", "integer", default = 16384, min = 1, doc = "validation tokens of an evaluation", unit = "tokens"},
  {"folder", "string", doc = "where checkpoints and log.jsonl go; with it the run can be resumed"},
  {"checkpoint_every", "integer", default = 0, min = 0, doc = "steps between checkpoints kept for good; 0: none but the latest"},
  {"save_seconds", "number", default = 60, min = 0, doc = "seconds between saves of the latest state", unit = "s"},
  {"keep", "list", default = {}, doc = "further steps whose checkpoint is kept"},
  {"from", "string", doc = "a checkpoint to go on from (a fork); a wrapper such as sam can start from one of its inner optimizer"},
  {"probes", "list", default = {}, doc = "{name=, every=, run=function(context) -> number or table}: called along the way and logged"},
  {"progress", "function", doc = "q.progress or the like; called with {total=, label=, start=}"},
  {"label", "string", default = "training", doc = "what the progress line says"},
  {"spike", "number", default = 6, above = 0, doc = "deviations above the recent loss that count as a spike"},
})

local Run = {}
Run.__index = Run

function Run:__tostring()
  local last, evaluated = self.log[#self.log] or {}, nil
  for i = #self.log, 1, -1 do evaluated = evaluated or self.log[i].eval_loss end
  return ("run at step %d of %d%s%s"):format(self.step, self.options.steps, last.loss and (", loss %.4f"):format(last.loss) or "",
    evaluated and (", evaluated %.4f"):format(evaluated) or "")
end

-- ---- the loss watch: NaN stops, a spike is reported ------------------------

local WINDOW = 64

--- Notes a loss; returns how many deviations it lies above the recent ones (0 while there are few).
local function watch(self, loss)
  local recent = self.recent
  local n, mean, square = #recent, 0, 0
  for _, v in ipairs(recent) do mean = mean + v / n end
  for _, v in ipairs(recent) do square = square + (v - mean) ^ 2 / n end
  local score = n >= WINDOW / 2 and (loss - mean) / math.max(math.sqrt(square), 1e-3 * math.abs(mean), 1e-12) or 0
  recent[#recent + 1] = loss
  if #recent > WINDOW then table.remove(recent, 1) end
  return score
end

-- ---- one step -------------------------------------------------------------

local function sum_gradients(self)
  local o, total = self.options, 0
  self.model.dropout_stream, self.model.recompute = self.dropout, o.recompute
  for _ = 1, o.accumulate do
    local loss = q.scope(function()
      local ids = o.data:batch("train", o.batch, o.context + 1, self.stream)
      local value = o.loss(self.model, ids)
      local scaled = o.accumulate > 1 and value * (1 / o.accumulate) or value
      scaled:backward()
      return value:item()
    end)
    total = total + loss / o.accumulate
  end
  self.model.dropout_stream, self.model.recompute = nil, nil
  return total
end

local function gradients(self) return q.nn.with_precision(self.options.precision, sum_gradients, self) end

--- A function that puts the data and dropout streams back to where they are now, so that the same batch comes again.
local function replay(self)
  local data, dropout = self.stream:counter(), self.dropout:counter()
  return function()
    self.stream:counter(data)
    self.dropout:counter(dropout)
  end
end

--- Advances by one step; returns its log record.
local function step(self)
  local o = self.options
  local number = self.step + 1
  local factor = o.schedule and o.schedule(number) or 1
  local loss
  local again = replay(self)
  local function closure() -- the gradients of this step's batch at the parameters as they are
    again()
    self.optim:zero_grad()
    local value = gradients(self)
    if value ~= value or math.abs(value) == math.huge then
      options.fail("q.train: the loss became %s at step %d (learning rate factor %g); the parameters of step %d are unchanged",
        tostring(value), number, factor, self.step)
    end
    loss = loss or value
  end
  if not (self.optim.gradients_moved and self.optim:active()) then closure() end -- weight noise asks for moved ones only
  local norm = self.optim:step(factor, closure)
  self.step = number
  local record = {step = number, loss = loss, scale = factor, grad_norm = type(norm) == "number" and norm or nil}
  local score = watch(self, loss)
  if score > o.spike then
    record.spike = score
    self:say("loss spike at step %d: %.4f, %.1f deviations above the last %d", number, loss, score, WINDOW)
  end
  return record
end

-- ---- probes and evaluation ------------------------------------------------

local function due(every, number, last) return every and every > 0 and number % every == 0 or number == last end

--- Calls fn with the parameters that are to be judged: schedule_free trains at others.
local function at_evaluation_point(self, fn, ...)
  if not self.optim.eval then return fn(...) end
  self.optim:eval()
  local results = {pcall(fn, ...)}
  self.optim:train()
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

local function measure_here(self, record)
  local o = self.options
  if due(o.eval_every, self.step, o.steps) then
    local e = evaluate.evaluate(self.model, o.data, {tokens = o.eval_tokens, batch = o.batch, context = o.context})
    record.eval_loss, record.bits_per_byte = e.loss, e.bits_per_byte
  end
  for _, probe in ipairs(o.probes) do
    if due(probe.every, self.step, o.steps) then
      local value = q.scope(probe.run, {model = self.model, step = self.step, optim = self.optim, data = o.data, record = record, run = self})
      if type(value) == "table" then
        for key, v in pairs(value) do record[probe.name .. "." .. key] = v end
      else
        record[probe.name] = value
      end
    end
  end
end

local function measure(self, record)
  local o, wanted = self.options, due(self.options.eval_every, self.step, self.options.steps)
  for _, probe in ipairs(o.probes) do wanted = wanted or due(probe.every, self.step, o.steps) end
  if wanted then at_evaluation_point(self, measure_here, self, record) end
end

-- ---- the run --------------------------------------------------------------

function Run:say(format, ...)
  if self.bar and self.bar.message then self.bar.message(format, ...)
  else io.stderr:write(format:format(...), "\n") end
end

--- The kept checkpoints, oldest first: {step=, path=}.
function Run:checkpoints() return checkpoint.list(self.options.folder) end

--- Writes the state to the folder now. Kept checkpoints are named by their step.
function Run:save(keep)
  if self.options.folder then checkpoint.write(self, keep) end
end

local function kept(o, number)
  if o.checkpoint_every > 0 and number % o.checkpoint_every == 0 then return true end
  for _, s in ipairs(o.keep) do
    if s == number then return true end
  end
  return false
end

local function note(self, record)
  self.log[#self.log + 1] = record
  if self.options.folder then checkpoint.append(self, record) end
end

--- Goes on to the last step. Ctrl-C waits for the end of the step (its probes included), so that the state
-- saved is one that an uninterrupted run passes through; a second Ctrl-C does not wait, and then the last save counts.
function Run:resume()
  local o, system = self.options, q.system
  if train.interrupted == self then train.interrupted = nil end
  if self.step >= o.steps then return self end
  if self.optim.train then self.optim:train() end
  self.bar = o.progress and o.progress{total = o.steps, label = o.label, start = self.step}
  local saved, started = system.clock(), self.step
  local tokens = o.batch * o.context * o.accumulate
  local ok, message = pcall(function()
    while self.step < o.steps do
      system.check_interrupt()
      self.whole = false
      system.defer_interrupt(true)
      local record = step(self)
      measure(self, record)
      note(self, record)
      if kept(o, self.step) then self:save(true) end
      if self.bar then
        self.bar:update(self.step, {loss = record.loss, ["rate x"] = record.scale, grad_norm = record.grad_norm,
          tokens = (self.step - started) * tokens})
      end
      if o.folder and system.clock() - saved > o.save_seconds then
        self:save(false)
        saved = system.clock()
      end
      self.whole = true
      system.defer_interrupt(false)
    end
  end)
  system.defer_interrupt(false)
  if self.bar then self.bar:finish() end
  if ok then
    self:save(false)
    if self.optim.eval then self.optim:eval() end -- the model is left as it is to be judged
    return self
  end
  local text = tostring(message)
  if text:find("interrupted", 1, true) then
    if self.whole then
      self:save(false)
      train.interrupted = self
    end
    local after = not self.whole and " in the middle of a step" .. (o.folder and "; run it again to go on from the last save" or "")
      or (o.folder and "; the state is saved, run it again to go on" or "; q.train.interrupted:resume() goes on")
    error(("training interrupted at step %d of %d%s"):format(self.step, o.steps, after), 0)
  end
  error(message, 0)
end

local function make_optimizer(o)
  if type(o.optim) == "function" then return o.optim(o.model:named_parameters()) end
  return o.optim
end

local function usual_loss(model, ids) return (model.training_loss or model.loss)(model, ids) end

--- Trains; see help(q.train).
local function start(_, given)
  local o = spec(given)
  o.loss = o.loss or usual_loss
  local stopped = train.interrupted
  if stopped and o.folder and stopped.options.folder == o.folder then train.interrupted = nil end -- its state is in the folder
  local self = setmetatable({options = o, model = o.model, step = 0, log = {}, recent = {}, whole = true}, Run)
  self.optim = make_optimizer(o)
  self.stream, self.dropout = q.stream(o.seed, "data"), q.stream(o.seed, "dropout")
  if not (o.folder and checkpoint.restore(self)) and o.from then checkpoint.load(self, o.from, true) end
  return self:resume()
end

help.add{"q.train", train, "q.train{model=, data=, optim=, steps=, ...} -> run", "Trains a model, with checkpoints, forks, probes and a log.",
  options = spec,
  text = [[
run.model, run.optim and run.log (one record a step: step, loss, scale, grad_norm, eval_loss, bits_per_byte and what
the probes gave); run:checkpoints() lists {step=, path=}. Ctrl-C stops behind a step: q.train.interrupted is that run, and
its :resume() goes on. With folder the state is saved at least every save_seconds, and the same call later resumes it.
Either way the result equals an uninterrupted run bit for bit.]],
  errors = "a loss that is not finite stops the run before the step is taken and names the step",
  example = [[
local data = q.data.text{name = "austen"}
local model = q.models.new("gpt_neox", {vocab_size = 256, hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 4})
local run = q.train{model = model, data = data, steps = 300,
  optim = function(p) return q.optim.adamw(p, {lr = 3e-3}) end,
  schedule = q.schedule.wsd{steps = 300, warmup = 10, decay = 60}}]],
  see = {"q.models.new", "q.optim.adamw", "q.schedule.wsd"}}

return setmetatable(train, {__call = start})
