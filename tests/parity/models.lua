-- Every family against values of Hugging Face transformers 5.17 on a tiny checkpoint: logits, hidden states, loss,
-- gradients and exact Hessian-vector products (tests/fixtures/hf; how they were made is in docs/models.md).
local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"

local function worst(a, b) return (a - b):abs():max():item() end
local function relative(a, b) return worst(a, b) / math.max(b:abs():max():item(), 1e-12) end

-- The module's name of a file's tensor, where they differ.
local function module_name(name) return name == "embed_out.weight" and "lm_head.weight" or name end

--- Splits a tensor (E, ...) of a fused module into what the file has, one expert at a time.
local function unfuse(out, prefix, value)
  local layer, part = prefix:match("layers%.(%d+)%.mlp%.experts%.(.+)$")
  if not layer then return false end
  for e = 1, value:size(1) do
    local v = value:select(1, e)
    for _, style in ipairs{{"block_sparse_moe.experts", "w1", "w3", "w2"}, {"mlp.experts", "gate_proj", "up_proj", "down_proj"}} do
      local name = ("model.layers.%s.%s.%d."):format(layer, style[1], e - 1)
      if part == "down_proj" then out[name .. style[4] .. ".weight"] = v
      else
        local half = v:size(1) / 2
        out[name .. style[2] .. ".weight"] = v:narrow(1, 1, half)
        out[name .. style[3] .. ".weight"] = v:narrow(1, half + 1, half)
      end
    end
  end
  return true
end

--- {file's name -> tensor} of what starts with "grad." or "hvp.", or of the direction that belongs to the gradients.
local function by_file_name(expect, kind, make)
  local out = {}
  for name, t in pairs(expect) do
    local key = name:match("^" .. kind .. "%.(.+)$")
    if key then
      local value = make and make(t) or t
      if not unfuse(out, key, value) then
        out[key] = value
        out[key:gsub("mlp%.gate%.weight", "block_sparse_moe.gate.weight")] = value
      end
    end
  end
  return out
end

-- v = sin(1 + 0.37 i) at flat index i
local function direction(t) return ((q.arange(t:numel(), "f64") * 0.37 + 1):sin()):to("f32"):view(t:shape()) end

-- transformers notes the output of each block of the state-space models, and the normed last one.
local function outputs(m, ids)
  local h, list = m:embed(ids), {}
  for i = 1, m:layers() do
    h = m:block(i, h)
    list[i] = h
  end
  list[#list + 1] = m:norm(h)
  return list
end

local function check_family(t, family)
  local dir = "tests/fixtures/hf/" .. family
  local expect = q.load(dir .. "/expect.safetensors")
  local m = q.models.load(dir)
  t.equal(m.family, family, "config.json names the family")
  local ids = expect.input_ids
  t.ok(worst(m:forward(ids), expect.logits) < 1e-4, family .. ": logits", worst(m:forward(ids), expect.logits))
  local states = m:hidden(ids)
  if family:find("mamba") then states = outputs(m, ids) end
  for i, h in ipairs(states) do
    local e = expect[("hidden.%d"):format(i - 1)]
    t.ok(worst(h, e) < 1e-4, ("%s: hidden state %d"):format(family, i - 1), worst(h, e))
  end
  local loss = m:loss(ids)
  t.near(loss:item(), expect.loss:item(), 1e-4, family .. ": loss")
  local params, named = m:parameters(), m:named_parameters()
  local grads = q.grad(loss, params, {create_graph = true})
  local v, expected, products = {}, by_file_name(expect, "grad"), by_file_name(expect, "hvp")
  local directions = by_file_name(expect, "grad", direction)
  local worst_grad, worst_hvp, where_grad, where_hvp = 0, 0, "", ""
  for i, p in ipairs(named) do
    local d = directions[module_name(p.name)]
    v[i] = p.transposed and d:t():contiguous() or d:contiguous()
  end
  local hv = q.jvp(grads, params, v)
  for i, p in ipairs(named) do
    local function as_file(x) return p.transposed and x:t() or x end
    local name = module_name(p.name)
    local a, b = relative(as_file(grads[i]), expected[name]), relative(as_file(hv[i]), products[name])
    if not (a <= worst_grad) then worst_grad, where_grad = a, p.name end -- luacheck: ignore 581
    if not (b <= worst_hvp) then worst_hvp, where_hvp = b, p.name end -- luacheck: ignore 581
  end
  t.ok(worst_grad < 1e-4, family .. ": gradients", ("%g at %s"):format(worst_grad, where_grad))
  t.ok(worst_hvp < 1e-4, family .. ": Hessian-vector product", ("%g at %s"):format(worst_hvp, where_hvp))
end

--- The same checkpoint in f64: every parameter's share of H v against rows of the dense Hessian, each row a reverse sweep over
-- one entry of the gradient (row i . v = (H v)_i), and all of H v against reverse over reverse. Both to 1e-9 of the largest entry.
local function check_double(t, family)
  local dir = "tests/fixtures/hf/" .. family
  local m = q.models.load(dir, {dtype = "f64"})
  local ids = q.load(dir .. "/expect.safetensors").input_ids
  local params, v = m:parameters(), {}
  for i, p in ipairs(params) do v[i] = direction(p):to "f64" end
  local function along(list)
    local sum
    for i, x in ipairs(list) do sum = sum and sum + (x * v[i]):sum() or (x * v[i]):sum() end
    return sum
  end
  local hv = q.curvature.hvp(m, params, v, {batches = {ids}})
  local gradient = q.grad(m:loss(ids), params, {create_graph = true})
  local reverse, size, off, off_rows = q.grad(along(gradient), params), 0, 0, 0
  for i, x in ipairs(reverse) do size, off = math.max(size, x:abs():max():item()), math.max(off, worst(hv[i], x)) end
  t.ok(off <= 1e-9 * size and size > 0, family .. ": H v in f64 is the one by reverse over reverse", off / size)
  for i, g in ipairs(gradient) do
    local at = (7 * i) % g:numel() + 1
    local row = q.grad(g:view(-1):narrow(1, at, 1):sum(), params)
    off_rows = math.max(off_rows, math.abs(along(row):item() - hv[i]:view(-1)[at]))
  end
  t.ok(off_rows <= 1e-9 * size, ("%s: and %d rows of the dense Hessian agree"):format(family, #gradient), off_rows / size)
end

local families = q.system.list("tests/fixtures/hf")
table.sort(families)
-- What is written must be what transformers wrote: the same tensors, and each key of config.json kept.
local function check_files(t, family)
  local dir, folder = "tests/fixtures/hf/" .. family, os.tmpname()
  os.remove(folder)
  local model = q.models.load(dir)
  model:save(folder)
  local theirs, ours = q.load(dir .. "/model.safetensors"), q.load(folder .. "/model.safetensors")
  local wrong = {}
  for name, x in pairs(theirs) do
    local y = ours[name]
    if not y or worst(x, y) ~= 0 or table.concat(x:shape(), ",") ~= table.concat(y:shape(), ",") then wrong[#wrong + 1] = name end
  end
  for name in pairs(ours) do
    if not theirs[name] then wrong[#wrong + 1] = name .. " is new" end
  end
  t.equal(table.concat(wrong, ", "), "", family .. ": the file's tensors come back")
  local nulls = {nulls = true} -- a null is a value: without it transformers takes the class's own
  local before, after, lost = json.read(dir .. "/config.json", nulls), json.read(folder .. "/config.json", nulls), {}
  for key, value in pairs(before) do
    local derived = value == json.null and model.config[key] -- e.g. n_inner, 4 n_embd where it is null
    if json.encode(derived or value) ~= json.encode(after[key]) then lost[#lost + 1] = key end
  end
  t.equal(table.concat(lost, ", "), "", family .. ": and the keys of its configuration")
  os.execute("rm -r " .. folder)
end

for _, family in ipairs(families) do
  tap.test(family, function(t) check_family(t, family) end)
  tap.test(family .. " in f64", function(t) check_double(t, family) end)
  tap.test(family .. ": files", function(t) check_files(t, family) end)
end

tap.done()
