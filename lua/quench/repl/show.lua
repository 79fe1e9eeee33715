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

--- A text whose lines are folded between words where the window ends; what is folded is indented by `indent`
-- characters, or two more than its line. Without a terminal nothing is folded.
function show.folded(text, indent, columns)
  columns = columns or machine.terminal_size(1)
  if not columns or columns < 30 then return text end
  local out = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local margin = (" "):rep(math.min(indent or #line:match("^ *") + 2, math.floor(columns / 2)))
    while #line > columns do
      local cut = line:sub(1, columns + 1):match("^.*%S() ")
      if not cut or cut <= #margin + 1 then break end
      out[#out + 1] = line:sub(1, cut - 1)
      line = margin .. line:sub(cut):gsub("^ +", "")
    end
    out[#out + 1] = line
  end
  return table.concat(out, "\n")
end

local MEANING = 40 -- where the meanings of options begin, see help.option_line

--- The text of a help record, folded; meanings of options stay in their column.
function show.help(text)
  local lines, options = {}, false
  for line in (text .. "\n"):gmatch("(.-)\n") do
    if line == "options:" then options = true
    elseif line:sub(1, 2) ~= "  " then options = false end
    lines[#lines + 1] = show.folded(line, options and line ~= "options:" and MEANING or nil)
  end
  return table.concat(lines, "\n")
end

return show
