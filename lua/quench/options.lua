--- Options: every option of a public function is typed, ranged and documented once.
-- One table of options feeds argument checking, help(), completion and the reference pages.
--
--   local adamw = options.spec("q.optim.adamw", {
--     {"lr", "number", default = 1e-3, min = 0, doc = "learning rate"},
--     {"betas", "list", default = {0.9, 0.95}, doc = "decay of the two moments"},
--     {"mode", "string", default = "a", choices = {"a", "b"}},
--   })
--   local o = adamw{lr = 0.1}       -- a checked copy with defaults filled in
--
-- An entry is {name, type, ...} with the keys default, required, min, max, above (min, excluded),
-- below (max, excluded), choices, doc, unit, check (function(value) -> nil or a complaint), excludes (the name
-- of an option that cannot be given beside it).
-- Types: number integer boolean string function table list tensor any; "a|b" allows either.

local options = {}

--- Levenshtein distance with transpositions, for "did you mean".
local function distance(a, b)
  local rows = {}
  for i = 0, #a do rows[i] = {[0] = i} end
  for j = 0, #b do rows[0][j] = j end
  for i = 1, #a do
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local best = math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost)
      if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
        best = math.min(best, rows[i - 2][j - 2] + 1)
      end
      rows[i][j] = best
    end
  end
  return rows[#a][#b]
end

--- The name nearest to `word` among `names`, or nil when none is near.
function options.nearest(word, names)
  local best, best_distance
  for _, name in ipairs(names) do
    local d = distance(word:lower(), name:lower())
    if not best or d < best_distance then best, best_distance = name, d end
  end
  if best and best_distance < #word and best_distance <= math.max(1, math.floor(#word / 3)) then return best end
  for _, name in ipairs(names) do -- a name begun but not finished
    if #word >= 2 and name:lower():find(word:lower(), 1, true) then return name end
  end
end

--- ", did you mean 'x'?" or "".
function options.suggest(word, names)
  local near = options.nearest(tostring(word), names)
  return near and (" (did you mean '%s'?)"):format(near) or ""
end

--- Raises an error that points at the first caller outside Quench's own sources.
function options.fail(format, ...)
  local message = select("#", ...) > 0 and format:format(...) or format
  local level = 2
  while true do
    local info = debug.getinfo(level, "S")
    if not info or info.what == "main" and info.short_src:sub(1, 7) ~= "quench/" then break end
    if info.what ~= "C" and info.short_src:sub(1, 7) ~= "quench/" then break end
    level = level + 1
  end
  error(message, debug.getinfo(level, "S") and level or 0)
end

local function is_tensor(v)
  local mt = getmetatable(v)
  return type(mt) == "table" and mt.__name == "tensor"
end

local is_type = {
  number = function(v) return type(v) == "number" end,
  integer = function(v) return type(v) == "number" and v == math.floor(v) and math.abs(v) <= 2 ^ 53 end,
  boolean = function(v) return type(v) == "boolean" end,
  string = function(v) return type(v) == "string" end,
  ["function"] = function(v)
    local mt = getmetatable(v)
    return type(v) == "function" or type(mt) == "table" and mt.__call ~= nil
  end,
  table = function(v) return type(v) == "table" end,
  list = function(v) return type(v) == "table" and (#v > 0 or next(v) == nil) end,
  tensor = is_tensor,
  any = function() return true end,
}

local function describe(v)
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) == "number" or type(v) == "boolean" then return tostring(v) end
  return is_tensor(v) and "a tensor" or "a " .. type(v)
end

local function has_type(v, types)
  for t in types:gmatch("[^|]+") do
    if is_type[t](v) then return true end
  end
end

--- Raises unless v is a model; name: the function that was given it.
function options.need_model(name, v)
  if type(v) == "table" and type(v.linears) == "function" then return end
  options.fail("%s: a model expected, as q.models.new and q.models.load give one, got %s", name, describe(v))
end

--- nil, or what is wrong with value for this entry.
function options.complaint(entry, v)
  local name, types = entry[1], entry[2]
  if not has_type(v, types) then
    return ("%s must be %s, got %s"):format(name, types:gsub("|", " or "), describe(v))
  end
  if type(v) == "number" then
    if v ~= v then return name .. " must not be NaN" end
    if entry.min and v < entry.min then return ("%s must be at least %g, got %g"):format(name, entry.min, v) end
    if entry.max and v > entry.max then return ("%s must be at most %g, got %g"):format(name, entry.max, v) end
    if entry.above and v <= entry.above then return ("%s must be above %g, got %g"):format(name, entry.above, v) end
    if entry.below and v >= entry.below then return ("%s must be below %g, got %g"):format(name, entry.below, v) end
  end
  if entry.choices and type(v) == "string" then
    for _, c in ipairs(entry.choices) do
      if c == v then return end
    end
    return ("%s must be one of %s; got %q%s"):format(name, table.concat(entry.choices, ", "), v, options.suggest(v, entry.choices))
  end
  return entry.check and entry.check(v)
end

--- A check for entries that are Lua patterns, or lists of such.
function options.pattern_check(entry)
  return function(v)
    for _, pattern in ipairs(type(v) == "table" and v or {v}) do
      local ok, wrong = pcall(string.find, "", tostring(pattern))
      if not ok then return ("%s: '%s' is no Lua pattern: %s"):format(entry, pattern, wrong) end
    end
  end
end

local Spec = {}
Spec.__index = Spec

--- The names of the options, in order.
function Spec:names()
  local names = {}
  for i, entry in ipairs(self) do names[i] = entry[1] end
  return names
end

--- A checked copy of `given` with defaults filled in; raises on anything wrong.
function Spec:__call(given)
  if given ~= nil and type(given) ~= "table" then
    options.fail("%s: options must be a table, got %s", self.name, describe(given))
  end
  local out = {}
  for key, value in pairs(given or {}) do
    local entry = self.by_name[key]
    if not entry then
      options.fail("%s: unknown option '%s'%s; options: %s", self.name, tostring(key), options.suggest(key, self:names()),
        table.concat(self:names(), ", "))
    end
    local wrong = options.complaint(entry, value)
    if not wrong and entry.excludes and given[entry.excludes] ~= nil then
      wrong = ("%s and %s exclude each other; give one of them"):format(key, entry.excludes)
    end
    if wrong then options.fail("%s: %s", self.name, wrong) end
    out[key] = value
  end
  for _, entry in ipairs(self) do
    local key = entry[1]
    if out[key] == nil then
      if entry.required then options.fail("%s: %s is required (%s)", self.name, key, entry.doc or entry[2]) end
      out[key] = entry.default
    end
  end
  return out
end

--- Declares the options of a function. `name` is what error messages and help show.
function options.spec(name, entries)
  local by_name = {}
  for _, entry in ipairs(entries) do
    assert(is_type[entry[2]:match("^[^|]+")], "unknown option type " .. tostring(entry[2]))
    by_name[entry[1]] = entry
  end
  local spec = {name = name, by_name = by_name}
  for i, entry in ipairs(entries) do spec[i] = entry end
  return setmetatable(spec, Spec)
end

return options
