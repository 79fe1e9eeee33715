-- Cost of a step and bytes of state per parameter of each optimizer, on the parameters of a small transformer (1.3 M);
-- Shampoo, SOAP and PSGD amortised over the frequency of their decompositions. bytes: weight read and written, gradient read,
-- state read and written.
local q = require "quench"

local bench = dofile("tests/bench/measure.lua")("optimizers")
local width, vocabulary = bench.pick(192, 16), bench.pick(1024, 32)

local shapes = {{"embed", {vocabulary, width}, "input"}, {"head", {vocabulary, width}, "output"}}
for block = 1, 2 do
  for _, s in ipairs{{"q", width, width}, {"k", width, width}, {"v", width, width}, {"o", width, width}, {"up", 4 * width, width},
    {"down", width, 4 * width}} do
    shapes[#shapes + 1] = {block .. "." .. s[1], {s[2], s[3]}, "hidden"}
  end
  shapes[#shapes + 1] = {block .. ".norm", {width}, "vector"}
end

local function parameters()
  local list, count = {}, 0
  for i, s in ipairs(shapes) do
    local w = q.zeros(s[2]):normal_(q.stream(i, "w"), 0, 0.02)
    w.grad = q.zeros(s[2]):normal_(q.stream(i, "g"), 0, 1e-3)
    list[i], count = {name = s[1], tensor = w, role = s[3]}, count + w:numel()
  end
  return list, count
end

-- the machine: one pass over as much memory as AdamW touches (w, m, v read and written, g read: 28 bytes a parameter)
do
  local list, count = parameters()
  bench.case("w = a w + b g, for comparison", count .. " parameters", function()
    q.no_grad(function()
      for _, r in ipairs(list) do r.tensor:axpby_(0.5, r.tensor.grad, 0.5) end
    end)
  end, {bytes = 12 * count, more = function(median) return {ns_per_parameter = median / count * 1e9} end})
end

local decomposed = {
  shampoo = {n = 20, options = {precondition_frequency = 20, start_preconditioning_step = 1, max_preconditioner_dim = 1024}},
  soap = {n = 10, options = {precondition_frequency = 10, max_precondition_dim = 1024}},
  psgd = {n = 4, options = {max_size_triangular = 1024}},
}
for _, name in ipairs{"sgd", "adamw", "adamc", "lion", "sophia", "ademamix", "schedule_free", "adafactor", "muon", "scion", "psgd",
  "shampoo", "soap"} do
  local list, count = parameters()
  local special = decomposed[name] or {n = 5, options = name == "sgd" and {momentum = 0.9} or {}}
  local opt = q.optim[name](list, special.options)
  opt:step()
  local state, size = opt:state_bytes(), count .. " parameters"
  bench.case(name .. (special.n > 5 and (", %d steps"):format(special.n) or ", 5 steps"), size, function()
    for _ = 1, special.n do opt:step() end -- whole periods of the decompositions
  end, {bytes = special.n * (12 * count + 2 * state), more = function(median)
    return {ns_per_parameter = median / special.n / count * 1e9, state_bytes_per_parameter = state / count}
  end})
  opt:zero_grad()
end
