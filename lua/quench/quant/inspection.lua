--- inspection.lua - quench inspect: the tensors of a weight file.
--
-- A tensor is looked at in slices of rows, so that memory holds a slice of it and what the file maps.

local q = require "quench"
local arguments = require "quench.recipe.arguments"
local command = require "quench.quant.command"
local options = require "quench.options"

local M = {}

local SLICE = 2 ^ 19 -- numbers looked at at a time, but at least a row
local BITS = {2, 3, 4, 8}

local spec = options.spec("quench inspect", {
  {"group", "integer", default = 128, min = 1, doc = "columns that share a scale in the error columns"},
  {"only", "string", doc = "a Lua pattern of names", check = options.pattern_check "only"},
  {"list", "boolean", default = false, doc = "the configuration, and types, shapes and bytes: no value is read"},
})

--- A number in so many columns; what a tensor does not have (a constant's kurtosis) is a dash.
local function cell(width, value)
  return value == value and math.abs(value) < math.huge and (" %%%d.3g"):format(width):format(value) or (" %" .. width .. "s"):format "-"
end

--- Calls fn(rows) with slices (n, columns) of a matrix, in f32 or f64, each in a scope of its own; ends when fn gives true.
local function slices(t, fn)
  local rows, columns = t:size(1), t:size(2)
  local step = math.max(1, math.floor(SLICE / columns))
  for first = 1, rows, step do
    local done = q.scope(function()
      local x = t:narrow(1, first, math.min(step, rows - first + 1))
      return fn(x:dtype() == "bf16" and x:to("f32") or x)
    end)
    q.system.check_interrupt()
    if done then return true end
  end
end

--- Range, mean and the mean over rows of max|x| / median|x|; nil where a number is not finite.
local function range_of(t)
  local least, most, sum, ratios, rows = math.huge, -math.huge, 0, 0, 0
  local broken = slices(t, function(x)
    if not x:all_finite() then return true end
    least, most, sum = math.min(least, x:min():item()), math.max(most, x:max():item()), sum + x:to("f64"):sum():item()
    local r = q.metrics.mmr(x)
    if r.samples > 0 then ratios, rows = ratios + r.value * r.samples, rows + r.samples end
  end)
  return not broken and {min = least, max = most, mean = sum / t:numel(), mmr = ratios / rows} or nil
end

--- The excess kurtosis, and for a matrix (errors: a group) the relative squared error of rounding to nearest at each of BITS.
local function moments_of(t, range, group)
  local second, fourth, total, errors = 0, 0, 0, {}
  slices(t, function(x)
    local wide = x:to("f64")
    local squares = (wide - range.mean):square()
    second, fourth, total = second + squares:sum():item(), fourth + squares:dot(squares), total + wide:dot(wide)
    for i = 1, group and #BITS or 0 do
      q.scope(function()
        local _, r = q.quant.rtn(x, q.quant.int(BITS[i], {group = group}))
        errors[i] = (errors[i] or 0) + r.mse * x:numel()
      end)
    end
  end)
  for i, e in ipairs(errors) do errors[i] = total > 0 and e / total or 0 end
  local kurtosis = range.min < range.max and fourth / t:numel() / (second / t:numel()) ^ 2 - 3 or 0 / 0
  return kurtosis, errors
end

local function inspect_tensor(file, name, o)
  local t = file:read(name)
  local line, kind = ("%-56s %-16s"):format(name, table.concat(t:shape(), "x")), t:dtype()
  if kind == "i32" or t:numel() == 0 or t:ndim() == 0 then return line .. " " .. kind end
  local matrix = t:view(-1, t:size(-1))
  local range = range_of(matrix)
  if not range then return line .. " holds NaN or infinity" end
  local kurtosis, errors = moments_of(matrix, range, t:ndim() > 1 and o.group or nil)
  line = line .. (" %10.4g %10.4g"):format(range.min, range.max) .. cell(9, kurtosis) .. cell(9, range.mmr)
  for _, e in ipairs(errors) do line = line .. cell(9, e) end
  return line
end

--- Family, size and configuration of a model's folder.
local function print_config(folder)
  local name, config = q.models.config(folder)
  local total, keys = 0, {}
  for _, p in ipairs((q.models.shapes(name, config))) do total = total + p.numel end
  for key, value in pairs(config) do
    if type(value) ~= "table" then keys[#keys + 1] = ("%s = %s"):format(key, tostring(value)) end
  end
  table.sort(keys)
  io.write(("%s, %.4g M parameters: %s\n"):format(name, total / 1e6, table.concat(keys, ", ")))
end

--- The names of a file's tensors that fit a pattern, or all.
local function matching(file, only)
  local names = {}
  for _, name in ipairs(file:names()) do
    if not only or name:find(only) then names[#names + 1] = name end
  end
  return names
end

--- Type, shape and bytes of each tensor, and their sum.
local function print_list(file, only)
  local count, bytes = 0, 0
  for _, name in ipairs(matching(file, only)) do
    local info = file:info(name)
    io.write(("%-56s %-16s %-8s %14d\n"):format(name, table.concat(info.shape, "x"), info.dtype, info.bytes))
    count, bytes = count + 1, bytes + info.bytes
  end
  io.write(("%d tensors, %.0f bytes\n"):format(count, bytes))
end

function M.main(args)
  if command.wants_help(args) then return command.usage("quench inspect FILE.safetensors [--only=PATTERN]", spec) end
  local words, list = command.split(args, spec)
  if #words ~= 1 then options.fail("quench inspect FILE: one file or folder is needed, got %d", #words) end
  local o = spec((arguments.parse(list, spec)))
  local file = q.open(words[1])
  if o.only and #matching(file, o.only) == 0 then options.fail("quench inspect: no tensor of '%s' has a name like '%s'", words[1], o.only) end
  if o.list then
    if q.system.exists(words[1] .. "/config.json") then print_config(words[1]) end
    print_list(file, o.only)
    file:close()
    return 0
  end
  io.write(("%-56s %-16s %10s %10s %9s %9s %9s %9s %9s %9s\n"):format("tensor", "shape", "min", "max", "kurtosis", "max/med",
    "err 2 bit", "3 bit", "4 bit", "8 bit"))
  for _, name in ipairs(matching(file, o.only)) do
    q.scope(q.no_grad, function() io.write(inspect_tensor(file, name, o), "\n") end)
    q.system.check_interrupt()
  end
  file:close()
  return 0
end

return M
