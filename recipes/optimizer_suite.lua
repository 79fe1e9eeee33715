--- optimizer_suite.lua - do the optimizers beat plain gradient descent where it struggles?
--
-- Four small problems: an ill-conditioned quadratic, matrix sensing, a two-layer network, a tiny language model.
-- Every optimizer runs with its preset (the paper's settings where there are any) for the same number of steps
-- under the same schedule (Schedule-Free without). Rates that suit a language model of 50 million parameters need not
-- suit a matrix of 320, so each optimizer gets the best of six multiples of its preset's rate, and gradient descent the best
-- of a finer grid. What is compared is the loss above its floor, over that of the best gradient descent. The presets as they stand
-- are compared with gradient descent at its default rate too: after as many steps, and after `long` steps.

local q = require "quench"

-- ---- problems: {records=, loss=function() -> tensor, sampled=function(stream) -> tensor, floor=, outputs=} ---

local function normal(shape, stream, deviation) return q.zeros(shape):normal_(stream, 0, deviation or 1) end

local function weight(name, role, tensor) return {name = name, role = role, tensor = tensor:requires_grad(), decay = role ~= "vector"} end

--- Least squares over residuals(): the mean of r^2 / 2. Sampled: labels drawn from N(prediction, 1), for Sophia.
local function least_squares(records, residuals, floor)
  local problem = {records = records, floor = floor or 0, outputs = residuals():numel()}
  function problem.loss() return (residuals() ^ 2):mean() * 0.5 end
  function problem.sampled(stream)
    local r = residuals()
    return (r * normal(r:shape(), stream)):mean()
  end
  return problem
end

--- A random matrix with singular values from 1 down to 1 / condition.
local function conditioned(n, condition, stream)
  local basis = q.linalg.qr(normal({n, n}, stream))
  local values = {}
  for i = 1, n do values[i] = condition ^ (-(i - 1) / (n - 1)) end
  return basis * q.tensor(values)
end

local problems, names = {}, {"quadratic", "sensing", "network", "language"}

--- 1/2 |L (W - W*) R|^2, a Hessian of condition 10^4.
function problems.quadratic(_, stream)
  local left, right = conditioned(20, 10, stream), conditioned(16, 10, stream)
  local w, target = weight("w", "hidden", q.zeros(20, 16)), normal({20, 16}, stream)
  return least_squares({w}, function() return left:matmul(w.tensor - target):matmul(right) end)
end

--- Finds a matrix of rank 4 from 600 random measurements, through its factors. Its rows are of very different size.
function problems.sensing(_, stream)
  local u, v = weight("u", "hidden", normal({24, 4}, stream, 0.1)), weight("v", "hidden", normal({16, 4}, stream, 0.1))
  local sizes = {}
  for i = 1, 24 do sizes[i] = {10 ^ (-1.5 * (i - 1) / 23)} end
  sizes = q.tensor(sizes)
  local truth = normal({24, 4}, stream):matmul(normal({4, 16}, stream))
  local measure = normal({600, 384}, stream, 1 / math.sqrt(384))
  local function seen(x) return measure:matmul((x * sizes):view(384, 1)) end
  local target = seen(truth)
  return least_squares({u, v}, function() return seen(u.tensor:matmul(v.tensor:t())) - target end)
end

--- A student network of a teacher of half its width, on inputs of very different size.
function problems.network(_, stream)
  local sizes = {}
  for i = 1, 16 do sizes[i] = 10 ^ (-2 * (i - 1) / 15) end
  local x = normal({512, 16}, stream) * q.tensor(sizes)
  local function net(w1, b1, w2) return q.linear(q.linear(x, w1, b1):tanh(), w2) end
  local truth = net(normal({16, 16}, stream), normal({16}, stream), normal({4, 16}, stream, 0.5))
  local records = {weight("w1", "hidden", normal({32, 16}, stream, 0.3)), weight("b1", "vector", q.zeros(32)),
    weight("w2", "output", normal({4, 32}, stream, 0.2))}
  return least_squares(records, function() return net(records[1].tensor, records[2].tensor, records[3].tensor) - truth end)
end

--- GPT-NeoX on a synthetic language of known entropy; a batch a step, the loss on held-out text.
function problems.language(p, stream)
  local data = q.data.language{vocab = 64, order = 1, branching = 8, train = 65536, validation = 4096, seed = p.seed}
  local model = q.models.new("gpt_neox", {vocab_size = 64, hidden_size = 32, num_hidden_layers = 1, num_attention_heads = 2,
    max_position_embeddings = 32, seed = p.seed})
  local problem = {records = model:named_parameters(), floor = data:floor(31), outputs = 8 * 31}
  local function batch() return data:batch("train", 8, 32, stream) end
  function problem.loss() return model:loss(batch()) end
  function problem.sampled(noise)
    local ids = batch():narrow(2, 1, 31):contiguous()
    local logits = model:forward(ids)
    local gumbel = -(-q.zeros(logits:shape()):uniform_(noise, 1e-7, 1):log()):log()
    return q.nn.cross_entropy(logits, (logits:detach() + gumbel):argmax(3))
  end
  function problem.final() return q.train.evaluate(model, data, {tokens = 4000, batch = 8, context = 31}).loss end
  return problem
end

-- ---- optimizers: the paper's presets, the literature's settings for the rest ----

local function preset(name) return q.optim.paper{name}.options end

local optimizers = {
  {"adamw", preset "adamw"}, {"muon", preset "muon"}, {"psgd", preset "psgd"}, {"scion", preset "scion"}, {"shampoo", preset "shampoo"},
  {"soap", preset "soap"}, {"adamc", {lr = 3e-3, betas = {0.9, 0.95}, weight_decay = 0}},
  {"lion", {lr = 1e-3, betas = {0.95, 0.98}, weight_decay = 0}},
  {"sophia", {lr = 3e-3, weight_decay = 0}}, {"adafactor", {lr = 1e-2}}, {"ademamix", {lr = 3e-3, betas = {0.9, 0.95, 0.99}}},
  {"schedule_free", {lr = 1e-2, warmup_steps = 15}},
}
local factors = {0.3, 1, 3, 10, 30, 100}                                  -- of a preset's rate
local sgd_rates = {0.03, 0.1, 0.2, 0.5, 1, 2, 3, 5, 7, 10, 14, 20, 28, 40} -- finer, so that it gets its best

--- A copy of the settings for one problem: groups without parameters there are dropped, Sophia learns the batch.
local function fit(settings, problem, lr)
  local o, roles = {}, {}
  for key, value in pairs(settings) do o[key] = value end
  for _, r in ipairs(problem.records) do roles[r.role] = true end
  if o.groups then
    o.groups = {}
    for _, group in ipairs(settings.groups) do
      if roles[group.role] then o.groups[#o.groups + 1] = group end
    end
  end
  o.lr = lr
  return o
end

--- The loss above the floor after so many steps; nil if it ran away to infinity.
local function train(p, name, kind, settings, lr, steps)
  local problem = problems[name](p, q.stream(p.seed, name))
  local o = fit(settings, problem, lr)
  if kind == "sophia" then o.batch_tokens = problem.outputs end
  local opt, noise = q.optim[kind](problem.records, o), q.stream(p.seed, "noise")
  local schedule = kind == "schedule_free" and q.schedule.constant{} or q.schedule.linear{steps = steps, warmup = 0.05}
  local good, message = pcall(function()
    for step = 1, steps do
      if kind == "sophia" and step % 10 == 1 then
        opt:zero_grad()
        q.scope(function() problem.sampled(noise):backward() end)
        opt:observe()
      end
      opt:zero_grad()
      q.scope(function() problem.loss():backward() end)
      opt:step(schedule(step))
    end
  end)
  opt:zero_grad()
  if not good and not (message:find "NaN" or message:find "infinite" or message:find "overflow") then error(message, 0) end
  opt:eval()
  local loss = good and q.scope(function() return problem.final and problem.final() or problem.loss():item() end)
  return loss and loss < math.huge and loss - problem.floor or nil
end

--- The best of a list of rates: {loss=, lr=, all = {loss or false, ...}, long = the loss at rates[given] after the long run}.
local function best(p, name, kind, settings, rates, given)
  local found = {all = {}, long = train(p, name, kind, settings, rates[given], p.long) or false}
  for i, lr in ipairs(rates) do
    local loss = train(p, name, kind, settings, lr, p.steps)
    found.all[i] = loss or false
    if loss and (not found.loss or loss < found.loss) then found.loss, found.lr = loss, lr end
  end
  return found
end

local function index_of(list, value)
  for i, v in ipairs(list) do
    if v == value then return i end
  end
end
local GIVEN, GIVEN_SGD = index_of(factors, 1), index_of(sgd_rates, 0.1) -- the rates that nobody tuned; 0.1 is q.optim.sgd's own

local function run(p, ctx)
  local results = {}
  local bar = ctx:progress{total = #names * (#optimizers + 1), label = "optimizers"}
  local done = 0
  local function count()
    done = done + 1
    bar:update(done)
  end
  for _, name in ipairs(names) do
    local row = {sgd = best(p, name, "sgd", {}, sgd_rates, GIVEN_SGD)}
    count()
    for _, optimizer in ipairs(optimizers) do
      local rates = {}
      for i, f in ipairs(factors) do rates[i] = optimizer[2].lr * f end
      row[optimizer[1]] = best(p, name, optimizer[1], optimizer[2], rates, GIVEN)
      count()
    end
    results[name] = row
  end
  bar:finish()
  return results
end

-- ---- what is claimed and shown ----

local function ratio(result, problem, optimizer)
  local loss = result[problem][optimizer].loss
  return loss and loss / result[problem].sgd.loss or math.huge
end

--- The largest ratio over the optimizers: below 1, all of them beat the best gradient descent.
local function worst(problem)
  return function(result)
    local most = 0
    for _, optimizer in ipairs(optimizers) do most = math.max(most, ratio(result, problem, optimizer[1])) end
    return most
  end
end

--- The loss at the rate of the preset as it stands; infinity where it ran away. long: after the long run.
local function as_given(result, problem, optimizer, long)
  local found = result[problem][optimizer]
  if long then return found.long or math.huge end
  return found.all[optimizer == "sgd" and GIVEN_SGD or GIVEN] or math.huge
end

--- The largest ratio over the optimizers, nothing tuned on either side: presets as they stand to gradient descent at its default.
local function worst_given(problem, long)
  return function(result)
    local most = 0
    for _, optimizer in ipairs(optimizers) do most = math.max(most, as_given(result, problem, optimizer[1], long)) end
    return most / as_given(result, problem, "sgd", long)
  end
end

local function figure(runs)
  local labels = {}
  for i, optimizer in ipairs(optimizers) do labels[i] = optimizer[1] end
  local plot = {y = "loss above its floor / best gradient descent", log = "y", width = 7, legend = "right",
    {"hline", y = 1, dash = "dotted", colour = "grey"}}
  for _, name in ipairs(names) do
    local mean = {}
    for i, label in ipairs(labels) do
      local sum = 0
      for _, result in ipairs(runs) do sum = sum + math.log(math.max(ratio(result, name, label), 1e-12)) end
      mean[i] = math.exp(sum / #runs)
    end
    plot[#plot + 1] = {"points", x = labels, y = mean, label = name}
  end
  return q.plot(plot)
end

--- A table of cell(problem, optimizer).
local function losses(title, cell)
  local lines = {title .. "\n", "| optimizer | " .. table.concat(names, " | ") .. " |", "| --- |" .. (" --- |"):rep(#names)}
  local function add(label)
    local cells = {label}
    for i, name in ipairs(names) do cells[i + 1] = cell(name, label) end
    lines[#lines + 1] = "| " .. table.concat(cells, " | ") .. " |"
  end
  add "sgd"
  for _, optimizer in ipairs(optimizers) do add(optimizer[1]) end
  return table.concat(lines, "\n") .. "\n"
end

--- The losses and rates behind the figure and the claims, of the first seed.
local function report(runs)
  return losses("Loss above its floor after equal steps, at the best rate of each optimizer's grid:", function(name, label)
    local b = runs[1][name][label]
    return b.loss and ("%.2e (lr %.2g)"):format(b.loss, b.lr) or "failed"
  end) .. "\n" .. losses("The same with nothing tuned: presets as they stand, gradient descent at 0.1; behind the stroke after the long run:",
    function(name, label)
      return ("%.2e / %.2e"):format(as_given(runs[1], name, label), as_given(runs[1], name, label, true))
    end)
end

local claims = {}
for i, name in ipairs(names) do
  claims[i] = {"S" .. i, "every optimizer ends below the best gradient descent on the problem '" .. name .. "': the largest ratio",
    measure = worst(name), below = 1}
  claims[#names + i] = {"P" .. i, "nothing tuned: every preset as it stands ends below gradient descent at its default rate on '" .. name ..
    "': the largest ratio", measure = worst_given(name), below = 1}
  claims[2 * #names + i] = {"L" .. i, "the same after the long run, of as many steps as the paper's code shows with these rates (2,000), on '" ..
    name .. "': the largest ratio", measure = worst_given(name, true), below = 1}
end

return q.recipe{
  name = "optimizer_suite",
  doc = "Do the optimizers beat plain gradient descent on small problems where it struggles?",
  params = {{"steps", "integer", default = 300, min = 10, doc = "steps of every run"},
    {"long", "integer", default = 2000, min = 10, doc = "steps of the long runs with nothing tuned"}},
  scales = {smoke = {steps = 10, long = 20}, tiny = {steps = 300}, small = {steps = 1000}},
  run = run,
  figures = {optimizers = figure},
  report = report,
  claims = claims,
}
