--- qat.lua - quantization-aware training: linear layers whose weights and inputs are quantized in every forward pass.

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"
local fake = require "quench.quant.fake"

local M = {public = {"qat", "export"}}

local spec = options.spec("q.quant.qat", {
  {"scheme", "string", default = "quest", choices = {"quest", "ste", "lsq", "pact"}, doc = "how values are rounded and gradients made"},
  {"weight_bits", "integer", default = 4, min = 1, max = 8, doc = "bits of the weights"},
  {"act_bits", "integer", default = 4, min = 1, max = 16, doc = "bits of the inputs of each linear layer; 16: as they are"},
  {"weight_format", "any", doc = "ste: any format (q.quant.formats) for the weights"},
  {"act_format", "any", doc = "ste: any format for the inputs (one scale a token unless it says otherwise)"},
  {"head", "boolean", default = false, doc = "the output head too"},
  {"skip", "list", default = {}, doc = "Lua patterns of names that stay as they are"},
  {"block", "integer", min = 0, doc = "quest: size of the Hadamard blocks, 0: none"},
  {"trust", "number", above = 0, doc = "quest: see q.quant.quest"},
})

-- A scheme makes, for one record, functions weight(w) -> what multiplies the inputs, input(x), and
-- plain(w) -> the weight of an ordinary layer that gives the same products.
local schemes = {}

function schemes.quest(record, o)
  local block = o.block or fake.quest_block(record.weight:size(2))
  local both = o.act_bits < 16
  local function weight(w, back) return fake.quest(w, o.weight_bits, {block = block, trust = o.trust, back = back}) end
  return {
    weight = function(w) return weight(w, not both) end, plain = function(w) return weight(w, true) end,
    input = both and function(x, back) return fake.quest(x, o.act_bits, {block = block, trust = o.trust, back = back}) end,
  }
end

function schemes.ste(_, o)
  local wf = o.weight_format and format.format(o.weight_format) or format.int(o.weight_bits, {convention = "restricted"})
  local af = o.act_format and format.format(o.act_format)
    or o.act_bits < 16 and format.int(math.min(o.act_bits, 8), {convention = "restricted"}) or nil
  local function weight(w) return fake.ste(w, wf) end
  return {weight = weight, plain = weight, input = af and function(x) return fake.ste(x, af) end}
end

--- A parameter of its own beside the layer's weight, under <name>.<suffix>.
local function learned(model, record, suffix, shape)
  return model:add(record.name .. "." .. suffix, shape, {value = 0, role = "vector", layer = record.layer})
end

--- Sets a learned scale from the first tensor it meets: 0 means not yet set, also after loading.
local function started(scale, first)
  if scale:detach():max():item() == 0 then q.no_grad(scale.copy_, scale, first()) end
  return scale
end

function schemes.lsq(record, o, model)
  local wf = format.int(o.weight_bits, {convention = "full"})
  local s = learned(model, record, "weight_scale", {record.weight:size(1), 1})
  local function weight(w) return fake.lsq(w, started(s, function() return fake.lsq_scale(w, wf) end), wf) end
  if o.act_bits > 8 then return {weight = weight, plain = weight} end
  local af = format.int(o.act_bits, {convention = "full", group = "tensor"})
  local t = learned(model, record, "input_scale", {1})
  return {weight = weight, plain = weight,
    input = function(x) return fake.lsq(x, started(t, function() return fake.lsq_scale(x, af) end), af) end}
end

function schemes.pact(record, o, model)
  local wf = format.int(o.weight_bits, {convention = "restricted"})
  local function weight(w) return fake.ste(w, wf) end
  if o.act_bits > 8 then return {weight = weight, plain = weight} end
  local af = format.int(o.act_bits, {convention = "restricted", group = "tensor"})
  local alpha = learned(model, record, "input_clip", {1})
  return {weight = weight, plain = weight,
    input = function(x) return fake.pact(x, started(alpha, function() return x:detach():abs():max():view(1) end), af) end}
end

local function skipped(name, patterns)
  for _, p in ipairs(patterns) do
    if name:find(p) then return true end
  end
end

--- q.quant.qat(model, options) -> the same model.
function M.qat(model, given)
  options.need_model("q.quant.qat", model)
  local o = spec(given)
  if (o.weight_format or o.act_format) and o.scheme ~= "ste" then
    options.fail("q.quant.qat: weight_format and act_format go with scheme = 'ste', not '%s'", o.scheme)
  end
  if o.act_bits > 8 and o.act_bits < 16 then options.fail("q.quant.qat: act_bits must be 1 to 8, or 16 for none; got %d", o.act_bits) end
  if model.quantized_training then options.fail("q.quant.qat: this model is already trained with scheme '%s'",
    model.quantized_training.scheme) end
  local list = {}
  for _, r in ipairs(model:linears(o.head)) do
    if not skipped(r.name, o.skip) then list[#list + 1] = r end
  end
  if #list == 0 then options.fail("q.quant.qat: no layer to quantize") end
  for _, r in ipairs(list) do
    local rule = schemes[o.scheme](r, o, model)
    r.quantizer = rule
    r.forward = function(record, x)
      return q.linear(rule.input and rule.input(x) or x, rule.weight(record.weight), record.bias)
    end
  end
  model.quantized_training = {scheme = o.scheme, options = o}
  return model
end

help.add{"q.quant.qat", M.qat, "qat(model, options) -> model",
  "Makes the model quantize weights and inputs of its linear layers in every forward pass, with gradients that can be trained on.",
  options = spec,
  text = "Changes the model itself; its parameters stay those of full precision. lsq and pact add parameters (weight_scale,\n"
    .. "input_scale, input_clip), set by the first batch. Make the optimizer after this call.",
  returns = "the model", errors = "a model that is already trained so; no layer left",
  source = "Panferov et al. 2025 (QuEST); Bengio et al. 2013 (STE); Esser et al. 2020 (LSQ); Choi et al. 2018 (PACT)",
  example = "local m = q.quant.qat(q.models.new('gpt_neox', {hidden_size = 128, num_hidden_layers = 2, num_attention_heads = 4}),\n"
    .. "  {scheme = 'quest', weight_bits = 4, act_bits = 4})", see = {"q.quant.export", "q.quant.quest", "q.quant.ste"}}

--- q.quant.export(model) -> an ordinary model with the weights that training rounded to.
function M.export(model)
  options.need_model("q.quant.export", model)
  local training = model.quantized_training
  if not training then options.fail("q.quant.export: this model was not made by q.quant.qat") end
  return q.no_grad(function()
    local twin = model:clone()
    local ours = twin:linears(true)
    for i, r in ipairs(model:linears(true)) do
      if r.quantizer then
        ours[i].weight:copy_(r.quantizer.plain(r.weight))
        local input = r.quantizer.input
        if input then
          local back = training.scheme == "quest"
          ours[i].forward = function(record, x) return q.linear(input(x, back), record.weight, record.bias) end
        end
      end
    end
    return twin
  end)
end

help.add{"q.quant.export", M.export, "export(model) -> model",
  "An ordinary model whose weights are the values that quantization-aware training rounded to; inputs stay quantized where they were.",
  text = "A file keeps its weights alone: what is loaded again does not round its inputs.",
  errors = "a model that q.quant.qat did not make", example = "local small = q.quant.export(m)\nsmall:save('small')", see = {"q.quant.qat"}}

return M
