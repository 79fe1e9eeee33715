-- The families of which no tensors of their authors are at hand (olmo3, opensci, ant, plainlm) against a second
-- computation: loops over Lua numbers in f64, written from the published descriptions and sharing nothing with the
-- models but the values of the parameters. The loops themselves are checked against transformers 5.17 first.
--
-- Loss and logits must agree to 1e-11; per parameter tensor, the slope along a direction u_k and u_k' H v (one
-- projection of the Hessian-vector product) agree with differences of the loops' loss.
local q = require "quench"
local tap = dofile "tests/tap.lua"

-- ---- vectors and rows: lists of numbers, lists of lists ---------------------

local function map(list, fn)
  local out = {}
  for i = 1, #list do out[i] = fn(list[i], i) end
  return out
end

local function dot(a, b)
  local sum = 0
  for i = 1, #a do sum = sum + a[i] * b[i] end
  return sum
end

local function add(a, b) return map(a, function(v, i) return v + b[i] end) end

local function times(weight, x, bias) -- weight (out, in)
  return map(weight, function(row, o) return dot(row, x) + (bias and bias[o] or 0) end)
end

local function slice(x, from, n)
  local out = {}
  for i = 1, n do out[i] = x[from + i - 1] end
  return out
end

-- ---- the pieces ------------------------------------------------------------

--- x / sqrt(mean of x^2 + eps) gain (Zhang and Sennrich, 2019).
local function rms(x, gain, eps)
  local scale = 1 / math.sqrt(dot(x, x) / #x + eps)
  return map(x, function(v, i) return v * scale * gain[i] end)
end

--- Each head of x by itself.
local function by_head(x, width, fn)
  local out = {}
  for h = 0, #x / width - 1 do
    for i, v in ipairs(fn(slice(x, h * width + 1, width), h + 1)) do out[h * width + i] = v end
  end
  return out
end

local function silu(x) return x / (1 + math.exp(-x)) end

--- Turns pairs of one head by position * frequencies[j]: neighbours, or halves apart (Su et al., 2021).
local function turn(x, position, r)
  local out, half = {}, #x / 2
  for j = 1, half do
    local a, b = r.neighbours and 2 * j - 1 or j, r.neighbours and 2 * j or j + half
    local c, s = r.grow * math.cos(position * r[j]), r.grow * math.sin(position * r[j])
    out[a], out[b] = x[a] * c - x[b] * s, x[b] * c + x[a] * s
  end
  return out
end

local function frequencies(width, theta, neighbours)
  local r = {neighbours = neighbours, grow = 1}
  for j = 0, width / 2 - 1 do r[j + 1] = 1 / theta ^ (2 * j / width) end
  return r
end

--- YaRN as published models use it (Peng et al., 2023, 3.2 and 3.4; transformers' corrected range): pairs that turn
-- more than 32 times in the original context stay, less than once are stretched, a ramp over the pair's number between.
local function yarn(width, theta, factor, context)
  local r = frequencies(width, theta)
  local function pair_that_turns(n) return width * math.log(context / (2 * math.pi * n)) / (2 * math.log(theta)) end
  local first, last = math.max(math.floor(pair_that_turns(32)), 0), math.min(math.ceil(pair_that_turns(1)), width - 1)
  if first == last then last = last + 0.001 end
  for j = 0, width / 2 - 1 do
    local stretched = math.min(1, math.max(0, (j - first) / (last - first)))
    r[j + 1] = r[j + 1] * (1 - stretched) + r[j + 1] / factor * stretched
  end
  r.grow = 1 + 0.1 * math.log(factor)
  return r
end

--- Heads of queries over the keys at or before them, the last `window` of them: softmax(scale[h] q k) v.
local function attend(Q, K, V, width, scale, window)
  local heads, kv = #Q[1] / width, #K[1] / width
  return map(Q, function(query, t)
    return by_head(query, width, function(qh, h)
      local at = math.ceil(h * kv / heads) -- consecutive heads share
      local weights, total, out = {}, 0, {}
      for s = math.max(1, t - window + 1), t do
        weights[s] = math.exp(scale[h] * dot(qh, slice(K[s], (at - 1) * width + 1, width)))
        total = total + weights[s]
      end
      for i = 1, width do
        out[i] = 0
        for s, p in pairs(weights) do out[i] = out[i] + p / total * V[s][(at - 1) * width + i] end
      end
      return out
    end)
  end)
end

local function constant(n, value)
  local out = {}
  for i = 1, n do out[i] = value end
  return out
end

-- ---- the families ----------------------------------------------------------

--- Attention of the Llama-like ones: q, k, v, norms on q and k, rotation, attention, o.
local function llama_attention(w, p, xs, c, how)
  p = p .. "self_attn."
  local width = c.head_dim
  local function project(x, name) return times(w(p .. name .. "_proj.weight"), x, how.bias and w(p .. name .. "_proj.bias")) end
  local function prepare(x, t, name)
    local y = project(x, name)
    local gain = how.qk and w(p .. name .. "_norm.weight")
    if how.qk == "whole" then y = rms(y, gain, c.rms_norm_eps) end
    return by_head(y, width, function(head)
      if how.qk == "head" then head = rms(head, gain, c.rms_norm_eps) end
      return how.rope and turn(head, t - 1, how.rope) or head
    end)
  end
  local Q, K = map(xs, function(x, t) return prepare(x, t, "q") end), map(xs, function(x, t) return prepare(x, t, "k") end)
  local V = map(xs, function(x) return project(x, "v") end)
  local y = attend(Q, K, V, width, constant(c.num_attention_heads, 1 / math.sqrt(width)), how.window or math.huge)
  return map(y, function(x) return project(x, "o") end)
end

local function swiglu(w, p, x, bias)
  local function project(v, name) return times(w(p .. "mlp." .. name .. "_proj.weight"), v, bias and w(p .. "mlp." .. name .. "_proj.bias")) end
  local up = project(x, "up")
  return project(map(project(x, "gate"), function(g, i) return silu(g) * up[i] end), "down")
end

--- The frame: embedding, blocks, norm, head. block(p, h, i) -> h for all positions.
local function frame(w, ids, c, names, block)
  local h = map(ids, function(id) return w(names.embedding)[id + 1] end)
  for i = 1, c.num_hidden_layers do h = block(names.block:format(i - 1), h, i) end
  return map(h, function(x) return times(w(c.tie_word_embeddings and names.embedding or names.head), rms(x, w(names.norm), c.rms_norm_eps)) end)
end

local usual = {embedding = "model.embed_tokens.weight", block = "model.layers.%d.", norm = "model.norm.weight", head = "lm_head.weight"}

--- h + attention(norm h), then h + mlp(norm h).
local function before(how_of)
  return function(w, ids, c)
    return frame(w, ids, c, usual, function(p, h, i)
      local how = how_of(c, i)
      local normed = map(h, function(x) return rms(x, w(p .. "input_layernorm.weight"), c.rms_norm_eps) end)
      local branch = llama_attention(w, p, normed, c, how)
      h = map(h, function(x, t) return add(x, branch[t]) end)
      return map(h, function(x)
        return add(x, swiglu(w, p, rms(x, w(p .. "post_attention_layernorm.weight"), c.rms_norm_eps), how.bias))
      end)
    end)
  end
end

--- h + norm(attention h), then h + norm(mlp h).
local function after(how_of)
  return function(w, ids, c)
    return frame(w, ids, c, usual, function(p, h, i)
      local branch = llama_attention(w, p, h, c, how_of(c, i))
      h = map(h, function(x, t) return add(x, rms(branch[t], w(p .. "post_attention_layernorm.weight"), c.rms_norm_eps)) end)
      return map(h, function(x) return add(x, rms(swiglu(w, p, x), w(p .. "post_feedforward_layernorm.weight"), c.rms_norm_eps)) end)
    end)
  end
end

local plain = {}

plain.llama = before(function(c) return {rope = frequencies(c.head_dim, c.rope_theta)} end)
plain.qwen3 = before(function(c) return {rope = frequencies(c.head_dim, c.rope_theta), qk = "head"} end)
plain.smollm3 = before(function(c, i) return {rope = i % 4 ~= 0 and c.no_rope_layers[i] == 1 and frequencies(c.head_dim, c.rope_theta)} end)
plain.olmo2 = after(function(c) return {rope = frequencies(c.head_dim, c.rope_theta), qk = "whole"} end)

--- open-sci-ref: norms on the heads of q and k, biases on all linears of the blocks.
plain.opensci = before(function(c) return {rope = frequencies(c.head_dim, c.rope_theta), qk = "head", bias = true} end)

--- plainLM's modern variant: neighbouring pairs.
plain.plainlm = before(function(c) return {rope = frequencies(c.head_dim, c.rope_theta, true)} end)

--- OLMo 3: three windowed layers with the plain rotation, a fourth that sees everything with the stretched one.
plain.olmo3 = after(function(c, i)
  if i % 4 ~= 0 then return {rope = frequencies(c.head_dim, c.rope_theta), qk = "whole", window = c.sliding_window} end
  local s = c.rope_scaling
  return {rope = yarn(c.head_dim, c.rope_theta, s.factor, s.original_max_position_embeddings), qk = "whole"}
end)

--- Beyond Outliers: q and k turned, then of length 1, a learned scale a head; ReLU^2; norms on the outputs; tied.
function plain.ant(w, ids, c)
  local names = {embedding = "embedding.weight", block = "blocks.%d.", norm = "norm.weight"}
  local rope = frequencies(c.head_dim, c.rope_theta, true)
  local function unit(x)
    local length = math.max(math.sqrt(dot(x, x)), 1e-12)
    return map(x, function(v) return v / length end)
  end
  return frame(w, ids, c, names, function(p, h)
    local function turned(name)
      return map(h, function(x, t)
        return by_head(times(w(p .. "attention." .. name .. ".weight"), x), c.head_dim, function(head) return unit(turn(head, t - 1, rope)) end)
      end)
    end
    local V = map(h, function(x) return times(w(p .. "attention.v.weight"), x) end)
    local scale = map(w(p .. "attention.scale")[1][1], function(s) return s[1] end)
    local y = attend(turned "q", turned "k", V, c.head_dim, scale, math.huge)
    h = map(h, function(x, t)
      return add(x, rms(times(w(p .. "attention.o.weight"), y[t]), w(p .. "attention_norm.weight"), c.rms_norm_eps))
    end)
    return map(h, function(x)
      local inner = map(times(w(p .. "mlp.up.weight"), x), function(v) return math.max(v, 0) ^ 2 end)
      return add(x, rms(times(w(p .. "mlp.down.weight"), inner), w(p .. "mlp_norm.weight"), c.rms_norm_eps))
    end)
  end)
end

--- Mean cross-entropy of the next token.
local function loss_of(logits, ids)
  local sum = 0
  for t = 1, #ids - 1 do
    local total = 0
    for _, v in ipairs(logits[t]) do total = total + math.exp(v) end
    sum = sum + math.log(total) - logits[t][ids[t + 1] + 1]
  end
  return sum / (#ids - 1)
end

-- ---- the checks ------------------------------------------------------------

local function values_of(m)
  local list = {}
  for name, p in pairs(m:tensors()) do list[name] = p:totable() end
  return function(name) return assert(list[name], name) end
end

local function worst(a, b) -- nested lists
  if type(a) == "number" then return math.abs(a - b) end
  local most = 0
  for i = 1, math.max(#a, #b) do most = math.max(most, worst(a[i], b[i])) end
  return most
end

for _, family in ipairs{"llama", "olmo2", "qwen3", "smollm3"} do
  tap.test("the loops, " .. family, function(t)
    local dir = "tests/fixtures/hf/" .. family
    local expect, m = q.load(dir .. "/expect.safetensors"), q.models.load(dir, {dtype = "f64"})
    local w, rows, logits = values_of(m), expect.input_ids:totable(), expect.logits:totable()
    for b, ids in ipairs(rows) do
      local got = plain[family](w, ids, m.config)
      t.ok(worst(got, logits[b]) < 1e-5, ("%s: row %d has transformers' logits"):format(family, b), worst(got, logits[b]))
    end
  end)
end

local small = {
  vocab_size = 23, hidden_size = 16, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 12, num_hidden_layers = 2, dtype = "f64",
}
local function with(extra)
  local c = {}
  for key, value in pairs(small) do c[key] = value end
  for key, value in pairs(extra) do c[key] = value end
  return c
end
local scaling = {rope_type = "yarn", factor = 4, original_max_position_embeddings = 16, beta_fast = 32, beta_slow = 1}
local configs = {
  olmo3 = with{num_hidden_layers = 4, sliding_window = 3, rope_scaling = scaling, rope_theta = 100},
  opensci = with{}, plainlm = with{rope_theta = 100},
  ant = {vocab_size = 23, num_hidden_layers = 2, num_attention_heads = 3, head_dim = 6, dtype = "f64"},
}
local ids = {3, 1, 4, 1, 5, 9, 2, 6, 5, 11}

--- A model whose parameters are all off their start, and directions u: one f64 tensor a parameter.
local function prepare(family)
  local m, u = q.models.new(family, configs[family]), {}
  for i, p in ipairs(m:parameters()) do
    q.no_grad(p.axpby_, p, 1, q.zeros(p:shape(), "f64"):normal_(q.stream(3, "shake" .. i), 0, 0.2), 1)
    u[i] = q.zeros(p:shape(), "f64"):normal_(q.stream(5, "u" .. i))
  end
  return m, u
end

--- Loss of the loops at parameters + a u_k + b v, where v is all of u.
local function moved(family, m, u, k, a, b)
  local params, kept = m:parameters(), {}
  for i, p in ipairs(params) do
    kept[i] = p:detach():clone()
    q.no_grad(p.axpby_, p, 1, u[i], b + (i == k and a or 0))
  end
  local loss = loss_of(plain[family](values_of(m), ids, m.config), ids)
  for i, p in ipairs(params) do q.no_grad(p.copy_, p, kept[i]) end
  return loss
end

for family in pairs(configs) do
  tap.test(family, function(t)
    local m, u = prepare(family)
    local row = q.tensor({ids}, "i32")
    local logits = plain[family](values_of(m), ids, m.config)
    t.ok(worst(m:forward(row):totable()[1], logits) < 1e-11, family .. ": logits", worst(m:forward(row):totable()[1], logits))
    local loss = m:loss(row)
    t.near(loss:item(), loss_of(logits, ids), 1e-12, family .. ": loss")
    local params = m:parameters()
    local g = q.grad(loss, params, {create_graph = true})
    local hv = q.jvp(g, params, u)
    -- h: truncation falls with h^2, rounding grows as 1e-16 / h^2
    local h, slopes, products, slope_sizes, product_sizes = 1e-5, {}, {}, 0, 0
    local names, got_slopes, got_products = m:named_parameters(), {}, {}
    for k = 1, #params do
      local function f(a, b) return moved(family, m, u, k, a * h, b * h) end
      slopes[k] = (8 * (f(1, 0) - f(-1, 0)) - f(2, 0) + f(-2, 0)) / (12 * h)
      products[k] = (f(1, 1) - f(1, -1) - f(-1, 1) + f(-1, -1)) / (4 * h * h)
      got_slopes[k], got_products[k] = g[k]:dot(u[k]), hv[k]:dot(u[k])
      slope_sizes, product_sizes = math.max(slope_sizes, math.abs(slopes[k])), math.max(product_sizes, math.abs(products[k]))
    end
    for k, p in ipairs(names) do
      t.near(got_slopes[k] / slope_sizes, slopes[k] / slope_sizes, 1e-8, family .. ": slope along " .. p.name)
      t.near(got_products[k] / product_sizes, products[k] / product_sizes, 1e-4, family .. ": Hessian-vector product at " .. p.name)
    end
  end)
end

tap.done()
