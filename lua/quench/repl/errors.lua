--- Errors at the prompt: the message, the line with a caret under what is meant, and the nearest name.

local help = require "quench.help"
local options = require "quench.options"

local errors = {}

--- The names one could have meant: fields of a table and of what its metatable indexes.
function errors.names_of(value)
  local names, seen = {}, {}
  local function collect(t, depth)
    if type(t) ~= "table" or depth > 4 then return end
    for key in pairs(t) do
      if type(key) == "string" and not seen[key] and not key:match("^__") then
        seen[key] = true
        names[#names + 1] = key
      end
    end
    local mt = getmetatable(t)
    if type(mt) == "table" then
      if type(mt.modules) == "table" then collect(mt.modules, depth + 1) end
      collect(mt.__index, depth + 1)
    end
  end
  local mt = type(value) == "userdata" and getmetatable(value)
  if type(value) == "string" then collect(string, 1)
  elseif type(mt) == "table" then -- methods lie in the metatable itself, or in the table it indexes
    collect(mt, 4)
    collect(mt.__index, 1)
  else collect(value, 0) end
  table.sort(names)
  return names
end

--- Looks a dotted path up without calling anything of the user's. Returns the value; or nil, the name that is missing,
-- and where it was looked for.
function errors.resolve(path)
  local value = _G
  for name in path:gmatch("[%a_][%w_]*") do
    if type(value) ~= "table" and type(value) ~= "userdata" then return nil end
    local good, inner = pcall(function() return value[name] end)
    if not good or inner == nil then return nil, name, value end
    value = inner
  end
  return value
end

--- The nearest name for a block that is nothing but a name without a value, or "".
function errors.near(text)
  local path = text:match("^%s*([%a_][%w_.]*)%s*$")
  if not path or path == "nil" or path:match("^ans%d$") then return "" end
  local value, missing, owner = errors.resolve(path)
  return value == nil and missing and options.suggest(missing, errors.names_of(owner)) or ""
end

-- ---- where in the line -------------------------------------------------------------------------

local function escaped(name) return (name:gsub("%p", "%%%0")) end

--- A name as a whole word.
local function word(line, name) return line:find("%f[%w_]" .. escaped(name) .. "%f[^%w_]") end

--- A global, field or method that is nil: with the nearest name that exists.
local function missing_name(message, line)
  local kind, name = message:match("attempt to %S+ (%S+) '([^']+)'")
  if not kind then kind, name = message:match("attempt to .- (%S+) '([^']+)' %(") end
  if not name then return end
  if kind == "global" or kind == "local" or kind == "upvalue" then
    local first, last = word(line, name)
    return first, last, kind == "global" and options.suggest(name, errors.names_of(_G)) or ""
  end
  local first, last = line:find("[.:]%s*" .. escaped(name) .. "%f[^%w_]")
  if not first then return end
  first = line:find(name, first, true)
  local owner = line:sub(1, first - 1):match("([%a_][%w_.]*)[.:]%s*$")
  local value = owner and errors.resolve(owner)
  if value == nil then return first, last, "" end
  for _, known in ipairs(errors.names_of(value)) do
    if known == name then return first, last, "" end -- it exists, but is nothing to be called or indexed
  end
  return first, last, options.suggest(name, errors.names_of(value))
end

local operators = {add = "+", sub = "-", mul = "*", div = "/", pow = "^"}

--- The operation that a message begins with, where the line has it once: matmul in "matmul: (3) and ...".
local function operation(message, line)
  local name = message:match("^[%w_.:]-([%w_]+): ")
  if not name then return end
  local sign = operators[name]
  local pattern = sign and escaped(sign) or "%f[%w_]" .. escaped(name) .. "%f[^%w_]"
  local first, last = line:find(pattern)
  if first and not line:find(pattern, last + 1) then return first, last end
  if sign then return operation(name .. "_: ", line) end
end

--- Where in the line the message points: first column, last column, and the nearest name if it is a misspelling.
local function locate(message, line)
  if message:find("%[quench/[^%]]+%]$") then return operation(message, line) end -- what it names is in there, see fault.lua
  local first, last, suggestion = missing_name(message, line)
  if first then return first, last, suggestion end
  local token = message:match("near '(.+)'$")
  if token and token ~= "<eof>" then first, last = line:find(token, 1, true) end
  if first then return first, last end
  for _, pattern in ipairs{"unknown option '([^']+)'", ": (%S+) must be ", "bad argument #%d+ to '([^']+)'"} do
    local name = message:match(pattern)
    first, last = nil, nil
    if name then first, last = word(line, name) end
    if first then return first, last end
  end
  return operation(message, line)
end

-- ---- the text ------------------------------------------------------------------------------------

local function nth_line(text, number)
  local n = 0
  for line in (text .. "\n"):gmatch("(.-)\n") do
    n = n + 1
    if n == number then return line end
  end
end

--- A line of a block of the prompt (sources: name -> text) or of a file; nil if it cannot be had, or is too long to show.
local function line_of(where, number, sources)
  local text = sources[where]
  if not text then
    local file = io.open(where, "r")
    if not file then return end
    text = file:read("*a") or ""
    file:close()
  end
  local line = nth_line(text, number)
  return line and #line <= 400 and line or nil
end

--- The lines that led there, from the inside: at most four, without a block that is nothing but its one line.
local function callers(frames, where, number, sources)
  local out = {}
  for i, frame in ipairs(frames or {}) do
    local same = frame[1] == where and frame[2] == number
    local obvious = i == #frames and sources[frame[1]] and not sources[frame[1]]:find("\n")
    local line = not same and not obvious and #out < 4 and line_of(frame[1], frame[2], sources)
    if line then out[#out + 1] = ("%4d | %s%s"):format(frame[2], line, sources[frame[1]] and "" or ("   (%s)"):format(frame[1])) end
  end
  if #out > 0 then table.insert(out, 1, "called from") end
  return out
end

--- The text shown for an error message. sources: the blocks that were typed, name -> text; frames: the user's code on the
-- stack, {name, line}, from the inside. The message is folded at `columns`; code stays as it is.
function errors.text(message, sources, frames, columns)
  local where, number, rest = message:match("^(.-):(%d+): (.*)$")
  if not where or rest:find("\n", 1, true) and #rest > 2000 then
    return help.folded("error: " .. message, 2, columns)
  end
  number = tonumber(number)
  local typed, line = sources[where], line_of(where, number, sources)
  local said, out = "error: " .. (typed and rest or message), {}
  if line then
    local first, last, suggestion = locate(rest, line)
    said = said .. (suggestion or "")
    local prefix = ("%4d | "):format(number)
    local elsewhere = not typed or typed:find("\n") or frames and #frames > 1
    if first or elsewhere then out[#out + 1] = prefix .. line end
    if first then
      local before = line:sub(1, first - 1):gsub("[^\t]", " "):gsub("[\128-\191]", "")
      out[#out + 1] = (" "):rep(#prefix) .. before .. "^" .. ("~"):rep(last - first)
    end
  end
  for _, text in ipairs(callers(frames, where, number, sources)) do out[#out + 1] = text end
  table.insert(out, 1, help.folded(said, 2, columns))
  return table.concat(out, "\n")
end

return errors
