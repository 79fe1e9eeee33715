-- Do the loss curves of f32 and bf16 products lie on each other? The model of the decay recipe (2 blocks, width 128) in its
-- schedule (constant, then linear to zero), three seeds, from the same start on the same batches. Not a speed, but what speed
-- in bf16 must not cost. The yardstick is the noise between seeds: the standard deviation of the f32 losses, held out, at the
-- end. Within it, by the rule fixed before the first run: the mean gap is below the noise. tests/e2e/bench.lua asserts that.
--   build/quench tests/bench/precision.lua [steps]
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("precision")

local steps = tonumber((...)) or bench.pick(120, 90)
local p = {layers = bench.pick(2, 1), width = bench.pick(128, 32), heads = bench.pick(4, 2), vocab = bench.pick(256, 32), batch = bench.pick(8, 4),
  context = bench.pick(128, 32), dropout = 0, lr = bench.pick(3e-3, 1e-2)}
local data = q.data.language{vocab = p.vocab, order = 2, branching = 4, train = steps * p.batch * (p.context + 1), validation = 16384, seed = 1}
local decay = math.floor(steps / 3)

--- Training losses, and the held-out loss at the end.
local function run(seed, precision)
  local r = q.train{model = q.lab.model(p, seed), data = data,
    steps = steps, batch = p.batch, context = p.context, seed = seed, precision = precision,
    optim = function(list) return q.optim.adamw(list, {lr = p.lr, betas = {0.9, 0.95}, weight_decay = 0.1, clip = 1}) end,
    schedule = q.schedule.wsd{steps = steps, warmup = math.floor(steps / 50), decay = decay}}
  return r.log, q.train.evaluate(r.model, data, {context = p.context}).loss
end

local function mean_and_deviation(list)
  local sum, squares = 0, 0
  for _, x in ipairs(list) do sum = sum + x end
  local mean = sum / #list
  for _, x in ipairs(list) do squares = squares + (x - mean) ^ 2 end
  return mean, math.sqrt(squares / (#list - 1))
end

local full, gaps, farthest = {}, {}, 0
for seed = 1, 3 do
  local log, loss = run(seed, "f32")
  local mixed, mixed_loss = run(seed, "bf16")
  full[seed], gaps[seed] = loss, mixed_loss - loss
  for i = 1, steps do farthest = math.max(farthest, math.abs(mixed[i].loss - log[i].loss)) end
end
local mean, noise = mean_and_deviation(full)
local gap = mean_and_deviation(gaps)
print(q.json.encode{bench = "precision", case = "held-out loss, bf16 - f32", size = ("%d blocks of %d, %d steps"):format(p.layers, p.width, steps),
  threads = q.threads(), value = gap, unit = "nats", gaps = gaps, loss_f32 = mean, noise_between_seeds = noise, farthest_training_losses = farthest,
  entropy = data:entropy(), within_noise = math.abs(gap) < noise})
