--- The command line of a recipe: --key=value into typed, checked values.
--
-- Values are parsed by the type of the parameter they name; ranges and choices are those of
-- options.spec, so a recipe says them once. "--key=value", "key=value", "--flag", "--no-flag".

local options = require "quench.options"

local arguments = {}

local truth = {["true"] = true, yes = true, on = true, ["1"] = true, [""] = true, ["false"] = false, no = false, off = false, ["0"] = false}

local parse = {}

function parse.number(text) return tonumber(text) end
parse.integer = parse.number
function parse.boolean(text) return truth[text:lower()] end
function parse.string(text) return text end

--- "1,2,3" or "a,b": numbers where all are, else texts.
function parse.list(text)
  local out, numbers = {}, true
  for part in (text .. ","):gmatch("%s*(.-)%s*,") do out[#out + 1] = part end
  if text == "" then out = {} end
  for _, part in ipairs(out) do numbers = numbers and tonumber(part) ~= nil end
  for i, part in ipairs(out) do out[i] = numbers and tonumber(part) or part end
  return out
end

--- The value that text means for this entry of a spec; raises what is wrong.
function arguments.value(entry, text)
  for kind in entry[2]:gmatch("[^|]+") do
    local value
    if parse[kind] then value = parse[kind](text) end
    if value ~= nil then
      local wrong = options.complaint(entry, value)
      if not wrong then return value end
    end
  end
  local value = parse[entry[2]] and parse[entry[2]](text)
  local wrong = value ~= nil and options.complaint(entry, value)
  error(("--%s=%s: %s"):format(entry[1], text, wrong or ("expected %s%s"):format(entry[2]:gsub("|", " or "),
    entry[2] == "list" and " like 1,2,3" or "")), 0)
end

--- Splits a list of arguments into values for the entries of the given specs, in order of preference.
-- Returns one table a spec.
function arguments.parse(list, ...)
  local specs, out, names = {...}, {}, {}
  for i, spec in ipairs(specs) do
    out[i] = {}
    for _, name in ipairs(spec:names()) do names[#names + 1] = name end
  end
  for _, argument in ipairs(list) do
    local key, equals, text = argument:match("^%-*([%w_-]+)(=?)(.*)$")
    if not key or (equals == "" and not argument:match("^%-%-")) then
      error(("cannot read '%s': parameters are written --name=value"):format(argument), 0)
    end
    key = key:gsub("%-", "_")
    local found
    for i, spec in ipairs(specs) do
      local entry = spec.by_name[key]
      local denied = not entry and equals == "" and key:match("^no_(.+)$")
      if denied and spec.by_name[denied] and spec.by_name[denied][2] == "boolean" then
        out[i][denied], found = false, true
      elseif entry then
        if equals == "" and not entry[2]:find("boolean") then error(("--%s needs a value: --%s=..."):format(key, key), 0) end
        out[i][key], found = arguments.value(entry, text), true
      end
      if found then break end
    end
    if not found then
      error(("unknown parameter '%s'%s; parameters: %s"):format(key, options.suggest(key, names), table.concat(names, ", ")), 0)
    end
  end
  return unpack(out)
end

return arguments
