--- format.lua - number formats: which values an element can take, and what scale it is under.
-- The formats themselves are rows of one table in core/quant/format.c; here they get names, options and help.

local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"

local M = {}

local function group_check(v)
  if type(v) == "string" and v ~= "row" and v ~= "tensor" then return "group must be a number of columns, 'row' or 'tensor'" end
  if type(v) == "number" and v < 1 and v ~= -1 then return ("group must be at least 1 column, got %g"):format(v) end
end

-- What every format can be given. The defaults are the format's own.
local shared = {
  {"group", "integer|string", doc = "columns that share a scale; 'row' (or -1) or 'tensor'", check = group_check},
  {"clip", "number", above = 0, max = 1, doc = "the range of each group is multiplied by it before the scale is taken"},
  {"search", "boolean|integer", doc = "try ranges shrunk by 1 - i/100 for i < 80 (or i < the number given) and keep the best"},
  {"norm", "number", above = 0, doc = "the search minimises sum |error|^norm (2.4 as GPTQ's reference, unless given)"},
  {"scale", "string", choices = {"exact", "f16", "bf16", "e8m0", "e4m3", "e4m3_tensor", "dynamic8"}, doc = "how scales are stored"},
  {"power", "string", choices = {"floor", "rceil", "ceil", "even"}, doc = "how a power-of-two scale is rounded"},
}

local function with_shared(name, own)
  local entries = {}
  for _, e in ipairs(own) do entries[#entries + 1] = e end
  for _, e in ipairs(shared) do entries[#entries + 1] = e end
  return options.spec(name, entries)
end

--- A group as the core counts it: columns, 0 for a row, -1 for the tensor.
local function group_number(group)
  if group == "row" or group == -1 then return 0 elseif group == "tensor" then return -1 end
  return group
end
M.group_number = group_number

--- Applies checked shared options to a format.
local function changed(format, o)
  local group = group_number(o.group)
  local search = o.search == true and 80 or o.search == false and 0 or o.search
  return format:with{group = group, clip = o.clip, search = search, norm = o.norm or search and search > 0 and 2.4 or nil,
    scale = o.scale, power = o.power}
end

local int = with_shared("q.quant.int", {
  {"symmetric", "boolean", default = false, doc = "short for convention = 'gptq'"},
  {"convention", "string", choices = {"asymmetric", "awq", "real", "gptq", "full", "restricted", "midrise"},
    doc = "the grid and its scale, see below; 'asymmetric' unless given"},
})

--- q.quant.int(bits, options): integers.
function M.int(bits, o)
  o = int(o)
  local complaint = options.complaint({"bits", "integer", min = 1, max = 8}, bits)
  if complaint then options.fail("q.quant.int: %s", complaint) end
  return changed(c.integer(bits, o.convention or (o.symmetric and "gptq" or "asymmetric")), o)
end

help.add{"q.quant.int", M.int, "int(bits, options) -> format", "Integers of 1 to 8 bits under a scale.", options = int,
  text = [[
Conventions, with m the largest magnitude of a group and b the bits:
  asymmetric  s = (max - min) / (2^b - 1), zero point round(-min / s), 0 always inside the range (GPTQ)
  awq         the same with the plain extremes, range at least 1e-5
  real        the same with the zero point as a real number (HQQ's start)
  gptq        s = 2 m / (2^b - 1), codes -2^(b-1) .. 2^(b-1) - 1: +m is clipped by one step
  full        s = m / (2^(b-1) - 1), the same codes
  restricted  as full, without the lowest code
  midrise     s = 2 m / (2^b - 1), levels at +-s/2, +-3s/2, ...: none at zero]],
  source = "Frantar et al. 2022 (GPTQ); Lin et al. 2023 (AWQ); Ashkboos et al. 2024 (QuaRot)",
  errors = "bits outside 1..8; a convention without a positive level at 1 bit",
  example = "local y, report = q.quant.rtn(w, q.quant.int(4, {group = 128}))", see = {"q.quant.rtn", "q.quant.gptq", "q.quant.formats"}}

local gaussian = with_shared("q.quant.gaussian", {})

--- q.quant.gaussian(bits, options): QuEST's grid.
function M.gaussian(bits, o)
  local complaint = options.complaint({"bits", "integer", min = 1, max = 8}, bits)
  if complaint then options.fail("q.quant.gaussian: %s", complaint) end
  return changed(c.gaussian(bits), gaussian(o))
end

help.add{"q.quant.gaussian", M.gaussian, "gaussian(bits, options) -> format",
  "Half-integer levels clipped at the multiple of the root mean square that is best for a normal distribution.", options = gaussian,
  source = "Panferov et al. 2025 (QuEST)", example = "q.quant.rtn(w, q.quant.gaussian(4))"}

local levels = with_shared("q.quant.levels", {{"name", "string", default = "levels", doc = "what reports call it"}})

--- q.quant.levels(list, options): the user's own grid.
function M.levels(list, o)
  o = levels(o)
  if type(list) == "userdata" and list.totable then list = list:totable() end
  if type(list) ~= "table" then options.fail("q.quant.levels: a list of numbers expected, got %s", type(list)) end
  for i, x in ipairs(list) do
    if type(x) ~= "number" then options.fail("q.quant.levels: level %d is no number but a %s", i, type(x)) end
  end
  return changed(c.levels(o.name, list), o)
end

help.add{"q.quant.levels", M.levels, "levels(list, options) -> format",
  "Your own grid: 2 to 256 ascending numbers; a group's largest magnitude goes to the largest magnitude among them.",
  options = levels, errors = "levels that do not ascend, NaN",
  example = "q.quant.rtn(w, q.quant.levels({-1, -0.3, 0, 0.3, 1}, {group = 64}))", see = {"q.quant.rule"}}

-- The numbers on both sides of a step of f between a and b.
local function step_between(f, a, b)
  local y = f(a)
  while true do
    local middle = a + (b - a) / 2
    if middle <= a or middle >= b then return a, b end
    if f(middle) == y then a = middle else b = middle end
  end
end

local rule = with_shared("q.quant.rule", {
  {"reach", "number", default = 1, above = 0, doc = "a group's largest magnitude is divided by its scale to give this"},
  {"samples", "integer", default = 4096, min = 16,
    doc = "points at which the function is looked at; steps closer than 2.5 reach / samples can be missed"},
  {"name", "string", default = "rule", doc = "what reports call it"},
})

--- q.quant.rule(fn, options): the user's own rounding, a staircase x -> level.
function M.rule(fn, o)
  o = rule(o)
  if type(fn) ~= "function" then options.fail("q.quant.rule: a function of one number expected, got %s", type(fn)) end
  local span = 1.25 * o.reach
  local found, steps = {fn(-span)}, {}
  local x = -span
  for i = 1, o.samples do
    local to = -span + 2 * span * i / o.samples
    while fn(to) ~= found[#found] do -- several steps may lie between two samples
      local last, first = step_between(fn, x, to)
      local before, after = found[#found], fn(first)
      if after <= before or after ~= after then
        options.fail("q.quant.rule: the function must be a staircase that goes up; from %.6g it goes to %.6g after %.6g",
          before, after, last)
      end
      steps[#steps + 1], found[#found + 1] = last, after
      if #found > 256 then options.fail("q.quant.rule: more than 256 levels between %g and %g; is it a staircase?", -span, span) end
      x = first
    end
    x = to
  end
  if #found < 2 then
    options.fail("q.quant.rule: the function gives %s everywhere between %g and %g", tostring(found[1]), -span, span)
  end
  return changed(c.levels(o.name, found, steps, o.reach), o)
end

help.add{"q.quant.rule", M.rule, "rule(fn, options) -> format",
  "Your own rounding: a function of one number (a weight over its scale) that gives its level.", options = rule,
  text = "The function is looked at once and its steps are found to the last bit, so that every method\n"
    .. "runs it at the speed of a built-in format.",
  errors = "a function that falls, has more than 256 steps or none",
  example = "local truncate = q.quant.rule(function(x) return x < 0 and math.ceil(x) or math.floor(x) end, {reach = 7})\n"
    .. "q.quant.rtn(w, truncate)"}

local table_options = {}
for _, row in ipairs(c.format_list()) do
  local name, doc = row[1], row[2]
  table_options[name] = with_shared("q.quant." .. name, {})
  M[name] = function(o) return changed(c.named(name), table_options[name](o)) end
  help.add{"q.quant." .. name, M[name], name .. "(options) -> format", doc:sub(1, 1):upper() .. doc:sub(2) .. ".",
    options = table_options[name],
    example = ("q.quant.rtn(w, q.quant.%s())"):format(name), see = {"q.quant.formats", "q.quant.rtn"}}
end

local function is_format(v)
  local mt = getmetatable(v)
  return type(v) == "userdata" and type(mt) == "table" and mt.__name == "format"
end
M.is_format = is_format

local resolve = with_shared("q.quant.format", {})

--- A format from a name ("int4", "nf4"), a format, or a table {format = name, group = ..., ...}, as M.plain gives it.
function M.format(what, o)
  if type(what) == "table" and (what.format or what.levels) then
    local rest = {}
    for k, v in pairs(what) do
      if k ~= "format" and k ~= "levels" and k ~= "steps" and k ~= "reach" and k ~= "name" then rest[k] = v end
    end
    return M.format(what.format or c.levels(what.name or "levels", what.levels, what.steps, what.reach or 1), rest)
  end
  if type(what) == "string" then what = c.named(what) end
  if not is_format(what) then options.fail("q.quant.format: a format or its name expected, got %s", type(what)) end
  return o and changed(what, resolve(o)) or what
end

local function same_list(a, b)
  if not a or not b or #a ~= #b then return a == b end
  for i, x in ipairs(a) do
    if b[i] ~= x then return false end
  end
  return true
end

--- A format as a table of names and numbers (for JSON), from which q.quant.format makes it again.
function M.plain(format)
  local d = format:describe()
  local known, base = pcall(c.named, d.name)
  local out = {scale = d.scale, group = d.group == 0 and "row" or d.group == -1 and "tensor" or d.group}
  if d.scale == "e8m0" then out.power = d.power end
  if d.clip ~= 1 then out.clip = d.clip end
  if d.search ~= 0 then out.search, out.norm = d.search, d.norm end
  base = known and base:describe()
  if base and same_list(base.levels, d.levels) and same_list(base.steps, d.steps) then
    out.format = d.name
  else
    out.name, out.levels, out.steps, out.reach = d.name, d.levels, d.steps, d.reach
  end
  return out
end

help.add{"q.quant.format", M.format, "format(what, options) -> format", "The format of a name, with other options; formats pass through.",
  options = resolve,
  errors = "an unknown name, with all names listed", example = "q.quant.format('nf4', {group = 128})"}

-- What every method that quantizes weights can be given.
local weight_entries = {
  {"bits", "integer", default = 4, min = 1, max = 8, excludes = "format", doc = "integer bits, where no format is given"},
  {"format", "any", doc = "any format or its name (q.quant.formats) instead of bits and symmetric"},
  {"group", "integer|string", doc = "columns that share a scale; 'row' (or -1) or 'tensor' [row, or the format's own]", check = group_check},
  {"symmetric", "boolean", default = false, excludes = "format", doc = "GPTQ's symmetric grid"},
  {"mse", "boolean", default = false, doc = "search the clip of each group (sum |error|^2.4)"},
}

--- The options above, then a method's own.
function M.with_weight_entries(own)
  local entries = {}
  for _, e in ipairs(weight_entries) do entries[#entries + 1] = e end
  for _, e in ipairs(own) do entries[#entries + 1] = e end
  return entries
end

--- The format that checked options name; integers are of the given convention.
function M.of_options(o, convention)
  if o.format then return M.format(o.format, (o.group or o.mse) and {group = o.group, search = o.mse or nil} or nil) end
  return M.int(o.bits, {convention = o.symmetric and "gptq" or convention, group = o.group, search = o.mse})
end

--- Options of a layer where `more` are added: a format takes the place of bits, group, symmetric and mse, bits and symmetric that of a format.
function M.merge_options(into, more)
  if more.format ~= nil then into.bits, into.group, into.symmetric, into.mse = nil, nil, nil, nil end
  if more.bits ~= nil or more.symmetric ~= nil then into.format = nil end
  for key, value in pairs(more) do into[key] = value end
end

--- The rows of the format table: list of {name =, doc =, bits =, group =, levels = number of levels}.
function M.formats()
  local rows = {}
  for i, row in ipairs(c.format_list()) do
    local f = c.named(row[1])
    local d = f:describe()
    rows[i] = {name = row[1], doc = row[2], bits = d.bits, group = d.group, levels = #f:levels(),
      bits_per_weight = f:bits_per_weight(4096, 4096)}
  end
  return rows
end

help.add{"q.quant.formats", M.formats, "formats() -> list",
  "The table of formats besides the integers: name, meaning, bits, group, number of levels, bits a weight with scales.",
  example = "for _, f in ipairs(q.quant.formats()) do print(f.name, f.bits_per_weight, f.doc) end"}

M.public = {"int", "gaussian", "levels", "rule", "format", "formats", "is_format"}
for _, row in ipairs(c.format_list()) do M.public[#M.public + 1] = row[1] end
help.add{"q.quant.is_format", M.is_format, "is_format(value) -> boolean", "Whether a value is a format, as q.quant.int gives one."}

return M
