--- Completion: what can follow the text before the cursor.
--
--   opt|           globals, keywords          q.optim.ad|     fields
--   t:sof|         methods                    q.train{mod|    options of a known function
--   "data/ti|      files                      :be|            commands of the prompt

local system = require "quench.c.system"
local help = require "quench.help"
local errors = require "quench.repl.errors"

local complete = {}

local keywords = {"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local", "nil", "not",
  "or", "repeat", "return", "then", "true", "until", "while"}

complete.commands = {} -- filled by repl.lua

local function matching(names, prefix)
  local found = {}
  for _, name in ipairs(names) do
    if name:sub(1, #prefix) == prefix then found[#found + 1] = name end
  end
  return found
end

--- Scans the text once. Returns the opening bracket positions still open, and the start of an open string.
local function scan(text)
  local open, i = {}, 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == '"' or c == "'" then
      local j = i + 1
      while j <= #text and text:sub(j, j) ~= c do j = j + (text:sub(j, j) == "\\" and 2 or 1) end
      if j > #text then return open, i + 1 end
      i = j
    elseif text:find("^%-%-", i) then
      i = text:find("\n", i, true) or #text
    elseif c:find("[({%[]") then
      open[#open + 1] = i
    elseif c:find("[)}%]]") then
      open[#open] = nil
    end
    i = i + 1
  end
  return open
end

local function files(prefix)
  local folder, start = prefix:match("^(.*/)([^/]*)$")
  if not folder then folder, start = "", prefix end
  local from = folder ~= "" and folder or "."
  if from:sub(1, 2) == "~/" then from = (os.getenv("HOME") or "~") .. from:sub(2) end
  local found = {}
  for _, name in ipairs(system.list(from) or {}) do
    if name:sub(1, #start) == start and (start ~= "" or name:sub(1, 1) ~= ".") then
      found[#found + 1] = name .. (system.kind(from .. "/" .. name) == "folder" and "/" or "")
    end
  end
  table.sort(found)
  return start, found
end

--- The spec of the options that a key typed here would name, or nil.
local function option_spec(text, open)
  local brace = open[#open]
  if not brace or text:sub(brace, brace) ~= "{" then return end
  local tail = text:sub(brace + 1)
  if not (tail:match("^%s*[%w_]*$") or tail:match("[,;]%s*[%w_]*$")) then return end
  -- f{...}: the name stands before the brace; f(x, {...}): before the parenthesis around it
  local name = text:sub(1, brace - 1):match("([%a_][%w_.:]*)%s*$")
  local parenthesis = open[#open - 1]
  if not name and parenthesis and text:sub(parenthesis, parenthesis) == "(" then
    name = text:sub(1, parenthesis - 1):match("([%a_][%w_.:]*)%s*$")
  end
  if not name then return end
  local owner, method = name:match("^(.*):([%w_]+)$")
  local record
  if owner then
    local object = errors.resolve(owner)
    record = help.find(type(object) == "userdata" and "t:" .. method or method)
  else
    local value = errors.resolve(name)
    record = value ~= nil and help.find(value) or help.find(name)
  end
  return record and record.options
end

local function fields(path, separator, prefix)
  local value = errors.resolve(path)
  if value == nil then return {} end
  local found = {}
  for _, name in ipairs(matching(errors.names_of(value), prefix)) do
    local good, inner = true, nil
    if separator == ":" then good, inner = pcall(function() return value[name] end) end
    if separator == "." or good and type(inner) == "function" then found[#found + 1] = name end
  end
  return found
end

--- The word being typed and the names that could complete it.
function complete.candidates(text)
  if text:match("^%s*:[%w_]*$") then
    local prefix = text:match(":([%w_]*)$")
    return prefix, matching(complete.commands, prefix)
  end
  local command, rest = text:match("^%s*:(%a+)%s+(.*)$")
  if command == "load" or command == "edit" then return files(rest) end
  if command == "run" and rest:match("^%S*$") then return rest, matching(require("quench.recipe").names(), rest) end
  local open, string_start = scan(text)
  if string_start then return files(text:sub(string_start)) end
  local path, separator, prefix = text:match("([%a_][%w_.]*)([.:])([%w_]*)$")
  if path then return prefix, fields(path, separator, prefix) end
  prefix = text:match("[%a_][%w_]*$") or ""
  if prefix == "" and text:match("[%w_]$") then return "", {} end -- inside a number
  local spec = option_spec(text, open)
  if spec then
    local found = {}
    for _, name in ipairs(matching(spec:names(), prefix)) do found[#found + 1] = name .. " = " end
    if #found > 0 then return prefix, found end
  end
  if prefix == "" then return "", {} end
  local names, seen = {}, {}
  for _, list in ipairs{errors.names_of(_G), keywords} do
    for _, name in ipairs(matching(list, prefix)) do
      if not seen[name] then names[#names + 1] = name end
      seen[name] = true
    end
  end
  table.sort(names)
  return prefix, names
end

local function common_prefix(names)
  local first = names[1]
  for i = 1, #first do
    for _, name in ipairs(names) do
      if name:sub(i, i) ~= first:sub(i, i) then return first:sub(1, i - 1) end
    end
  end
  return first
end

--- Names in columns for a window of that width, at most 60.
function complete.columns(names, width)
  local longest = 0
  for _, name in ipairs(names) do longest = math.max(longest, #name) end
  local shown = math.min(#names, 60)
  local count = math.max(1, math.floor(width / (longest + 2)))
  local rows = math.ceil(shown / count)
  local lines = {}
  for row = 1, rows do
    local cells = {}
    for column = 0, count - 1 do
      local i = column * rows + row
      if i <= shown then cells[#cells + 1] = ("%-" .. longest .. "s"):format(names[i]) end
    end
    lines[row] = table.concat(cells, "  "):gsub("%s+$", "")
  end
  if shown < #names then lines[#lines + 1] = ("... and %d more"):format(#names - shown) end
  return table.concat(lines, "\n")
end

--- For the editor: what to insert at the cursor and what to show, either may be "".
function complete.at(text, width)
  if text:match("^[ ]*$") or text:match("\n[ ]*$") then return "  ", "" end
  local prefix, names = complete.candidates(text)
  if #names == 0 then return "", "" end
  local insert = common_prefix(names):sub(#prefix + 1)
  if #names == 1 or insert ~= "" then return insert, "" end
  return "", complete.columns(names, width)
end

return complete
