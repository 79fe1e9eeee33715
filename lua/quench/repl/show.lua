--- How the prompt shows a value: tensors as they print themselves, tables one level deep, functions by their help.

local help = require "quench.help"
local machine = require "quench.c.machine"

local show = {}

local ITEMS, WIDTH = 40, 100 -- entries shown of a table; characters before it takes several lines

local function key_text(key)
  if type(key) == "string" and key:match("^[%a_][%w_]*$") then return key end
  return "[" .. (type(key) == "string" and ("%q"):format(key) or tostring(key)) .. "]"
end

local function by_type_and_value(a, b)
  if type(a) == type(b) and (type(a) == "number" or type(a) == "string") then return a < b end
  return tostring(type(a)) < tostring(type(b))
end

--- One line for a value inside a table.
local function brief(v)
  if type(v) == "string" then return #v > 60 and ("%q..."):format(v:sub(1, 60)) or ("%q"):format(v) end
  if type(v) == "table" and not (getmetatable(v) or {}).__tostring then
    return next(v) == nil and "{}" or ("{...} (%d)"):format((function(n) for _ in pairs(v) do n = n + 1 end return n end)(0))
  end
  local text = tostring(v)
  return (text:match("^[^\n]*"))
end

local function table_text(t)
  local keys, parts, list = {}, {}, {}
  for i = 1, math.min(#t, ITEMS) do parts[i], list[i] = brief(t[i]), true end
  for key in pairs(t) do
    if not (type(key) == "number" and key >= 1 and key <= #t and key == math.floor(key)) then keys[#keys + 1] = key end
  end
  table.sort(keys, by_type_and_value)
  for i = 1, math.min(#keys, ITEMS) do parts[#parts + 1] = key_text(keys[i]) .. " = " .. brief(t[keys[i]]) end
  local hidden = #t - #list + #keys - math.min(#keys, ITEMS)
  if hidden > 0 then parts[#parts + 1] = ("... %d more"):format(hidden) end
  local line = "{" .. table.concat(parts, ", ") .. "}"
  return #line <= WIDTH and line or "{\n  " .. table.concat(parts, ",\n  ") .. "\n}"
end

--- The text for a value.
function show.value(v)
  local record = (type(v) == "function" or type(v) == "table") and help.find(v)
  if record then return record.signature .. "\n  " .. record.doc end
  if type(v) == "string" then
    if v:find("\n") and not v:find("[%z\1-\8\11-\31\127]") then return v end -- a text of several lines, as it is
    return (("%q"):format(v):gsub("\\\n", "\\n"))
  end
  if type(v) == "table" and not (getmetatable(v) or {}).__tostring then return table_text(v) end
  return tostring(v)
end

--- A text folded where the window ends, see help.folded. Without a terminal nothing is folded.
function show.folded(text, indent, columns) return help.folded(text, indent, columns or machine.terminal_size(1)) end

return show
