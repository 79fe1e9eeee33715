--- average/sources.lua - sets of named tensors, wherever they lie, and their weighted sums.
--
-- Sums are made in f64, one tensor at a time, so that averaging twenty checkpoints on disk needs the
-- memory of one. Tensors of integers are taken from the first set.

local c = require "quench.c.tensor"
local files = require "quench.files"
local options = require "quench.options"
local tensors = require "quench.tensors"

local M = {}

--- A named set of tensors: {names = sorted list, read = function(name) -> tensor}.
function M.of(where, weights, prefix)
  local found, read = {}
  if type(weights) == "string" then
    local file = files.open(weights)
    for _, name in ipairs(file:names()) do found[#found + 1] = name end
    read = function(name) return file:read(name) end
  elseif type(weights) == "table" then
    local list = weights
    if type(weights.named_parameters) == "function" then
      list = {}
      for _, r in ipairs(weights:named_parameters()) do list[r.name or r[1]] = r.tensor or r[2] end
    end
    for name in pairs(list) do found[#found + 1] = name end
    read = function(name) return list[name] end
  else
    options.fail("%s: weights must be a model, a table of tensors or a path, got a %s", where, type(weights))
  end
  local names = {}
  for _, name in ipairs(found) do
    if name:sub(1, #prefix) == prefix then names[#names + 1] = name:sub(#prefix + 1) end
  end
  table.sort(names)
  if #names == 0 then options.fail("%s: no weights%s", where, prefix ~= "" and " whose names begin with '" .. prefix .. "'" or "") end
  return {names = names, read = function(name) return read(prefix .. name) end}
end

local function check_same(where, first, other, k)
  local present = {}
  for _, name in ipairs(other.names) do present[name] = true end
  for _, name in ipairs(first.names) do
    if not present[name] then options.fail("%s: set %d has no tensor '%s'", where, k, name) end
  end
  if #other.names ~= #first.names then options.fail("%s: set %d has %d tensors, the first %d", where, k, #other.names, #first.names) end
end

function M.is_real(t) return t:dtype() ~= "i32" end

--- sum of coefficient[k] * read of tensor `name` over the sources, in the first one's type.
local function combine_one(where, sources, coefficients, name)
  local first = sources[1].read(name)
  if not M.is_real(first) then return first:clone() end
  local sum = c.zeros(first:shape(), "f64")
  for k, source in ipairs(sources) do
    local t = source.read(name)
    if table.concat(t:shape(), ",") ~= table.concat(first:shape(), ",") then
      options.fail("%s: '%s' is (%s) in the first set, (%s) in set %d", where, name, table.concat(first:shape(), ", "),
        table.concat(t:shape(), ", "), k)
    end
    sum:axpby_(1, t:detach():to "f64", coefficients[k])
  end
  return first:dtype() == "f64" and sum or sum:to(first:dtype())
end

--- The sum of coefficient[k] times set k: a table {name = tensor}.
function M.combine(where, sources, coefficients)
  for k = 2, #sources do check_same(where, sources[1], sources[k], k) end
  local result = {}
  for _, name in ipairs(sources[1].names) do
    result[name] = c.no_grad(tensors.scope, combine_one, where, sources, coefficients, name)
  end
  return result
end

function M.list(where, list, prefix)
  if type(list) ~= "table" or #list == 0 then options.fail("%s: needs a list of weights", where) end
  local sources = {}
  for k, weights in ipairs(list) do sources[k] = M.of(where, weights, prefix) end
  return sources
end

function M.equal_shares(n)
  local shares = {}
  for k = 1, n do shares[k] = 1 / n end
  return shares
end

return M
