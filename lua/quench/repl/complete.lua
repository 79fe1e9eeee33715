--- Completion: what can follow the text before the cursor.
--
--   opt|           globals, keywords          q.optim.ad|     fields
--   t:sof|         methods                    q.train{mod|    options of a known function, which are not there yet
--   "data/ti|      files                      {method = "g|   values of an option, where they are few
--   :be|           commands of the prompt     :run decay --sc|  parameters of a recipe, and their values

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

--- The name that stands before a place in the text: a function's, where a bracket opens there.
local function name_before(text, at) return text:sub(1, at - 1):match("([%a_][%w_.:]*)%s*$") end

--- The help record of a function by the name that was typed, or nil.
local function record_of(name)
  local owner, method = name:match("^(.*):([%w_]+)$")
  if owner then return help.find(type(errors.resolve(owner)) == "userdata" and "t:" .. method or method) end
  local value = errors.resolve(name)
  return value ~= nil and help.find(value) or help.find(name)
end

--- The help record of the function whose call has the innermost open bracket for its argument: f{...} and f(x, {...}); of a
-- layer of q.plot, {"line", ...}, that of the layer.
local function record_around(text, open)
  local at, outer = open[#open], open[#open - 1]
  if not at then return end
  local name = name_before(text, at)
  if not name and outer and text:sub(at, at) == "{" then
    name = name_before(text, outer)
    local kind = text:sub(outer, outer) == "{" and text:sub(at):match("^{%s*[\"'](%a+)[\"']")
    if kind then name = "q.plot." .. kind
    elseif text:sub(outer, outer) ~= "(" then return end
  end
  return name and record_of(name)
end

--- Where a key could stand behind the innermost open brace: the spec of the options there, and those given already.
local function options_here(text, open)
  local at = open[#open]
  local tail = at and text:sub(at, at) == "{" and text:sub(at + 1)
  if not tail or not (tail:match("^%s*[%w_]*$") or tail:match("[,;]%s*[%w_]*$")) then return end
  local record, given = record_around(text, open), {}
  for key in tail:gsub("%b{}", ""):gsub("%b()", ""):gmatch("([%a_][%w_]*)%s*=") do given[key] = true end
  return record and record.options, given
end

--- Arguments that are one of a few names, by the function.
local arguments = {
  ["q.models.new"] = function() return require("quench").models.names() end,
  ["q.recipe.load"] = function() return require("quench.recipe").names() end,
  ["q.recipe.run"] = function() return require("quench.recipe").names() end,
}

--- The values that a text which begins behind `before` can have, or nil.
local function values(before, open)
  local key = before:match("([%a_][%w_]*)%s*=%s*$")
  local record = record_around(before, open)
  if key then
    local entry = record and record.options and record.options.by_name and record.options.by_name[key]
    return entry and entry.choices
  end
  local outer = open[#open - 1]
  if before:match("{%s*$") and outer and (record_of(name_before(before, outer) or "") or {}).name == "q.plot" then
    return require("quench.plots.kinds").names
  end
  local argument = record and before:match("%(%s*$") and arguments[record.name]
  return argument and argument()
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

--- What follows ":run ": a recipe or a file, parameters, values of a parameter.
local function run_arguments(rest)
  local recipe = require "quench.recipe"
  local name, word = rest:match("^(%S+)%s.-(%S*)$")
  if not name then
    local names = matching(recipe.names(), rest)
    if #names == 0 then return files(rest) end
    return rest, names
  end
  local good, r = pcall(recipe.load, name)
  if not good then return "", {} end
  local runner = require "quench.recipe.runner"
  local key, value = word:match("^%-%-([%w_]+)=(.*)$")
  if key then
    local entry = r.spec.by_name[key] or runner.flags.by_name[key] or {}
    return value, matching(key == "scale" and runner.scales(r) or entry.choices or {}, value)
  end
  local names = {}
  for _, spec in ipairs{r.spec, runner.flags} do
    for _, entry in ipairs(spec) do names[#names + 1] = "--" .. entry[1] .. (entry[2] == "boolean" and "" or "=") end
  end
  return word, matching(names, word)
end

--- The word being typed and the names that could complete it.
function complete.candidates(text)
  if text:match("^%s*:[%w_]*$") then
    local prefix = text:match(":([%w_]*)$")
    return prefix, matching(complete.commands, prefix)
  end
  local command, rest = text:match("^%s*:(%a+)%s+(.*)$")
  if command == "load" or command == "edit" then return files(rest) end
  if command == "run" then return run_arguments(rest) end
  local open, string_start = scan(text)
  if string_start then
    local prefix = text:sub(string_start)
    local found = matching(values(text:sub(1, string_start - 2), open) or {}, prefix)
    if #found > 0 then return prefix, found end
    return files(prefix)
  end
  local path, separator, prefix = text:match("([%a_][%w_.]*)([.:])([%w_]*)$")
  if path then return prefix, fields(path, separator, prefix) end
  prefix = text:match("[%a_][%w_]*$") or ""
  if prefix == "" and text:match("[%w_]$") then return "", {} end -- inside a number
  local spec, given = options_here(text, open)
  if spec then
    local found = {}
    for _, name in ipairs(matching(spec:names(), prefix)) do
      if not given[name] then found[#found + 1] = name .. " = " end
    end
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
