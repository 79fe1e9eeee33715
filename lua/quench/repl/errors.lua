--- Errors at the prompt: the message, the line with a caret under what is meant, and the nearest name.

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

--- Looks a dotted path up without calling anything of the user's. Returns the value, or nil.
function errors.resolve(path)
  local value = _G
  for name in path:gmatch("[%a_][%w_]*") do
    if type(value) ~= "table" and type(value) ~= "userdata" then return nil end
    local good, inner = pcall(function() return value[name] end)
    if not good then return nil end
    value = inner
  end
  return value
end

--- Where in the line the message points: first column, last column, and the nearest name if it is a misspelling.
local function locate(message, line)
  local kind, name = message:match("attempt to %S+ (%S+) '([^']+)'")
  if not kind then kind, name = message:match("attempt to .- (%S+) '([^']+)' %(") end
  if name then
    local pattern = kind == "global" and "%f[%w_]" .. name .. "%f[^%w_]" or "[.:]%s*" .. name .. "%f[^%w_]"
    local first, last = line:find(pattern)
    if not first then return end
    first = line:find(name, first, true)
    if kind == "global" then return first, last, options.suggest(name, errors.names_of(_G)) end
    local owner = line:sub(1, first - 1):match("([%a_][%w_.]*)[.:]%s*$")
    local value = owner and errors.resolve(owner)
    return first, last, value ~= nil and options.suggest(name, errors.names_of(value)) or ""
  end
  local option = message:match("unknown option '([^']+)'")
  if option then
    local first, last = line:find("%f[%w_]" .. option .. "%f[^%w_]")
    return first, last, ""
  end
  local token = message:match("near '(.+)'$")
  if token and token ~= "<eof>" then
    local first, last = line:find(token, 1, true)
    return first, last, ""
  end
  option = message:match(": (%S+) must be ") or message:match("bad argument #%d+ to '([^']+)'")
  if option then
    local first, last = line:find("%f[%w_]" .. option:gsub("%p", "%%%0") .. "%f[^%w_]")
    return first, last, ""
  end
end

local function file_line(path, number)
  local file = io.open(path, "r")
  if not file then return end
  local n, found = 0, nil
  for line in file:lines() do
    n = n + 1
    if n == number then found = line break end
  end
  file:close()
  return found
end

--- The text shown for an error message. source: the block that was typed.
function errors.text(message, source)
  local where, number, rest = message:match("^(.-):(%d+): (.*)$")
  if not where or rest:find("\n", 1, true) and #rest > 2000 then return "error: " .. message end
  number = tonumber(number)
  local line
  if where == "(prompt)" then
    local n = 0
    for text in (source .. "\n"):gmatch("(.-)\n") do
      n = n + 1
      if n == number then line = text end
    end
  else
    line = file_line(where, number)
  end
  local out = {"error: " .. (where == "(prompt)" and rest or message)}
  if line and #line <= 400 then
    local first, last, suggestion = locate(rest, line)
    if suggestion and suggestion ~= "" then out[1] = out[1] .. suggestion end
    local prefix = ("%4d | "):format(number)
    if first or where ~= "(prompt)" or source:find("\n") then out[#out + 1] = prefix .. line end
    if first then
      local before = line:sub(1, first - 1):gsub("[^\t]", " ")
      out[#out + 1] = (" "):rep(#prefix) .. before .. "^" .. ("~"):rep(last - first)
    end
  end
  return table.concat(out, "\n")
end

return errors
