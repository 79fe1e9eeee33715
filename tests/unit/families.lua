-- The families beside parity: derivatives against differences in f64, files, sizes, what distinguishes
-- a family from its nearest relative, errors.
local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"

local tiny = {
  ant = {vocab_size = 31, num_hidden_layers = 2, num_attention_heads = 3, head_dim = 8},
  gpt2 = {vocab_size = 31, n_embd = 16, n_layer = 2, n_head = 2, n_positions = 32},
  gpt_neox = {vocab_size = 31, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, rotary_pct = 0.5},
  mamba = {vocab_size = 31, hidden_size = 16, num_hidden_layers = 2, state_size = 4, time_step_rank = 3},
  mamba2 = {vocab_size = 31, hidden_size = 16, num_hidden_layers = 2, state_size = 4, head_dim = 8, n_groups = 2, chunk_size = 4},
}
local usual = {
  vocab_size = 31, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 24,
}
local llama3 = {rope_type = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4, original_max_position_embeddings = 16}
local yarn = {rope_type = "yarn", factor = 4, original_max_position_embeddings = 16}
local more = {
  llama = {rope_scaling = llama3}, olmo = {clip_qkv = 0.05}, olmo3 = {sliding_window = 3, rope_scaling = yarn},
  smollm3 = {no_rope_layers = {1, 0}}, qwen3 = {head_dim = 8},
  mixtral = {num_local_experts = 4}, olmoe = {num_experts = 4, num_experts_per_tok = 2, norm_topk_prob = true},
}
local function config(name, extra)
  local c = {}
  for _, part in ipairs{tiny[name] or usual, not tiny[name] and more[name] or {}, extra or {}} do
    for key, value in pairs(part) do c[key] = value end
  end
  return c
end

local ids = q.keep(q.tensor({{3, 1, 4, 1, 5, 9, 2, 6, 5, 11}, {2, 7, 1, 8, 2, 8, 1, 30, 0, 4}}, "i32"))

-- Moves every parameter off the flat start (zero biases, gains of 1).
local function shake(m, deviation)
  for i, p in ipairs(m:parameters()) do
    local noise = q.zeros(p:shape(), p:dtype()):normal_(q.stream(3, "shake" .. i), 0, deviation or 0.1)
    q.no_grad(p.axpby_, p, 1, noise, 1)
  end
  return m
end

local function along(name, kind) -- a direction
  local m = shake(q.models.new(name, config(name, {dtype = "f64"})))
  local v = {}
  for i, p in ipairs(m:parameters()) do v[i] = q.zeros(p:shape(), "f64"):normal_(q.stream(5, kind .. i)) end
  return m, v
end

for _, name in ipairs(q.models.names()) do
  tap.test(name .. ": derivatives in f64", function(t)
    local m, v = along(name, "v")
    local params = m:parameters()
    local function at(step)
      local start = {}
      for i, p in ipairs(params) do
        start[i] = p:detach():clone()
        q.no_grad(p.axpby_, p, 1, v[i], step)
      end
      local loss = m:loss(ids)
      local g = q.grad(loss, params)
      for i, p in ipairs(params) do q.no_grad(p.copy_, p, start[i]) end
      return loss:item(), g
    end
    -- central differences of fourth order
    local h, measured, differences = 1e-6, 0, {} -- small: few kinks of ReLU^2, clipping and routing are crossed
    for _, term in ipairs{{1, 8}, {-1, -8}, {2, -1}, {-2, 1}} do
      local value, g = at(term[1] * h)
      measured = measured + term[2] * value / (12 * h)
      for i in ipairs(params) do
        local part = g[i] * (term[2] / (12 * h))
        differences[i] = differences[i] and differences[i] + part or part
      end
    end
    local g = q.grad(m:loss(ids), params, {create_graph = true})
    local hv = q.jvp(g, params, v)
    local slope, gap, size = 0, 0, 0
    for i in ipairs(params) do
      slope = slope + g[i]:dot(v[i])
      gap = math.max(gap, (differences[i] - hv[i]):abs():max():item())
      size = math.max(size, hv[i]:abs():max():item())
    end
    t.near(slope, measured, 1e-8, name .. ": gradient")
    t.ok(gap < 1e-7 * math.max(1, size), name .. ": Hessian-vector product", ("off by %g of %g"):format(gap, size))
  end)

  tap.test(name .. ": files", function(t)
    local folder = os.tmpname()
    os.remove(folder)
    local m = shake(q.models.new(name, config(name)))
    m:save(folder, {shard = 6000})
    local index, shards, wrong, bytes = json.read(folder .. "/model.safetensors.index.json"), {}, {}, 0
    for _, p in ipairs(m:named_parameters()) do -- as safetensors' own readers look them up
      local file = index.weight_map[p.name] and folder .. "/" .. index.weight_map[p.name]
      shards[file or ""] = shards[file or ""] or file and q.load(file) or {}
      local stored = shards[file or ""][p.name]
      if stored then bytes = bytes + stored:nbytes() else wrong[#wrong + 1] = p.name end
    end
    t.equal(table.concat(wrong, ", "), "", name .. ": the index names each tensor's shard")
    local constants = 4 * #m.constants
    t.equal(index.metadata.total_size, bytes + constants, name .. ": and the bytes of all")
    local again = q.models.load(folder)
    t.equal(again.family, name, name .. ": the folder names its family")
    t.equal(json.encode(again.config), json.encode(m.config), name .. ": the same configuration")
    t.equal((again:forward(ids) - m:forward(ids)):abs():max():item(), 0, name .. ": the same bits")
    local wide = m:clone("f64")
    t.near(wide:loss(ids):item(), m:loss(ids):item(), 1e-5, name .. ": a copy in f64")
    local lazy = q.models.load(folder, {lazy = true})
    local h = lazy:embed(ids)
    for i = 1, lazy:layers() do
      h = lazy:block(i, h)
    end
    t.equal((lazy:head(h) - m:forward(ids)):abs():max():item(), 0, name .. ": block by block")
    os.execute("rm -r " .. folder)
  end)

  tap.test(name .. ": learns, and can be quantized", function(t)
    local m = q.models.new(name, config(name))
    local optim = q.optim.adamw(m:named_parameters(), {lr = 0.01})
    local first
    for _ = 1, 8 do
      optim:zero_grad()
      local loss = m:loss(ids)
      first = first or loss:item()
      loss:backward()
      optim:step()
    end
    t.ok(math.abs(first - math.log(31)) < 1.2, name .. ": starts near the uniform loss", first)
    local last = m:loss(ids):item()
    t.ok(last < first - 0.2, name .. ": learns", ("%g, then %g"):format(first, last))
    local small, report = q.quant.quantize(m, {method = "gptq", bits = 8, group = "row", calibration = ids})
    t.equal(#report, #m:linears(), name .. ": every linear")
    t.near(small:loss(ids):item(), last, 0.05, name .. ": 8 bits hardly matter")
    local seen = 0
    for _, r in ipairs(report) do seen = math.max(seen, r.tokens or 0) end
    t.equal(seen, ids:numel(), name .. ": calibrated on all tokens")
  end)
end

tap.test("a folder holds one model", function(t)
  local folder = os.tmpname()
  os.remove(folder)
  local first, second = q.models.new("llama", config("llama")), shake(q.models.new("llama", config("llama")))
  local function files()
    local names = {}
    for _, name in ipairs(q.system.list(folder)) do names[#names + 1] = name:match("safetensors") and name or nil end
    table.sort(names)
    return table.concat(names, " ")
  end
  local function holds(m, what)
    t.equal((q.models.load(folder):forward(ids) - m:forward(ids)):abs():max():item(), 0, what)
  end
  first:save(folder)
  second:save(folder, {shard = 6000})
  holds(second, "shards in place of a whole file are what is read")
  t.ok(not files():find("model.safetensors ", 1, true) and files():find("index.json", 1, true), "the whole file is gone", files())
  local many = files()
  first:save(folder, {shard = 12000})
  holds(first, "fewer shards in place of many")
  local index = json.read(folder .. "/model.safetensors.index.json")
  for name in files():gmatch("%S+%.safetensors%f[ %z]") do
    local named = false
    for _, file in pairs(index.weight_map) do named = named or file == name end
    t.ok(named, name .. " is in the index")
  end
  t.ok(#files() < #many, "the others are gone", files())
  q.system.write_file(folder .. "/notes.txt", "mine")
  q.system.write_file(folder .. "/other.safetensors", "mine too")
  second:save(folder)
  holds(second, "a whole file in place of shards")
  t.equal(files(), "model.safetensors other.safetensors", "and no shard is left, but what was never the model's")
  t.equal(q.system.read_file(folder .. "/notes.txt"), "mine", "nor is it touched")
  os.execute("rm -r '" .. folder .. "'")
end)

tap.done()
