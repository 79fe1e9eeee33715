--- Help: one record a public function; help(), completion and docs/reference come from it.
--
--   help.add{"q.optim.adamw", q.optim.adamw, "adamw(params, options) -> optimizer",
--     "AdamW with decoupled weight decay.", options = spec,
--     source = "Loshchilov and Hutter, 2019", example = [[...]], see = {"q.schedule.wsd"}}

local help = {}

local records = {}                                -- in order of declaration
local by_name = {}
local by_value = setmetatable({}, {__mode = "k"}) -- functions and tables -> record

--- Declares a record: {name, value or nil, signature, one-line meaning, text=, options=, returns=, shapes=,
-- errors=, source=, example=, see=}.
function help.add(record)
  local r = {name = record[1], value = record[2], signature = record[3], doc = record[4]}
  for key, v in pairs(record) do
    if type(key) == "string" then r[key] = v end
  end
  assert(type(r.name) == "string" and type(r.signature) == "string" and type(r.doc) == "string", "help.add{name, value, signature, doc}")
  if not by_name[r.name] then records[#records + 1] = r end
  by_name[r.name] = r
  if r.value ~= nil then by_value[r.value] = r end
  return r.value
end

local function find(what)
  if type(what) ~= "string" then return by_value[what] end
  if by_name[what] then return by_name[what] end
  if by_name["q." .. what] then return by_name["q." .. what] end
  for _, r in ipairs(records) do
    if r.name:match("[^.:]+$") == what then return r end
  end
end

--- The record for a function value or a name ("q.optim.adamw", "optim.adamw" or "adamw"), or nil.
-- The records of what is bound in C load with the first question that the others cannot answer.
function help.find(what)
  return find(what) or not package.loaded["quench.records"] and require "quench.records" and find(what) or nil
end

--- All records, in order of declaration.
function help.records() return records end

--- The default and the range of an option, as texts.
function help.option_parts(entry)
  local notes = {}
  local function note(label, v)
    if v ~= nil then notes[#notes + 1] = label .. tostring(v) end
  end
  note("", entry.unit)
  note(">= ", entry.min)
  note("<= ", entry.max)
  note("> ", entry.above)
  note("< ", entry.below)
  if entry.choices then notes[#notes + 1] = table.concat(entry.choices, " | ") end
  local default = entry.default
  if type(default) == "table" then default = #default > 0 and "{" .. table.concat(default, ", ") .. "}" or "{}" end
  if entry.required then default = "required" end
  return default == nil and "-" or tostring(default), table.concat(notes, ", ")
end

--- One line on an option: name, type, default, meaning and range.
function help.option_line(entry)
  local default, notes = help.option_parts(entry)
  return ("  %-16s %-9s %-10s %s%s"):format(entry[1], entry[2], default, entry.doc or "", notes ~= "" and " [" .. notes .. "]" or "")
end

--- The text of a record, as shown at the prompt.
function help.text(r)
  local lines = {r.signature, "  " .. r.doc}
  local function add(line) lines[#lines + 1] = line end
  if r.text then add("") add(r.text) end
  if r.options then
    add("") add("options:")
    for _, entry in ipairs(r.options) do add(help.option_line(entry)) end
  end
  for _, key in ipairs{"shapes", "returns", "errors", "source"} do
    if r[key] then add(("%s: %s"):format(key, r[key])) end
  end
  if r.example then
    add("") add("example:")
    for line in (r.example:gsub("%s+$", "") .. "\n"):gmatch("(.-)\n") do add("  " .. line) end
  end
  if r.see then add("") add("see also: " .. table.concat(r.see, ", ")) end
  return table.concat(lines, "\n")
end

--- Records whose name or page (signature, meaning, options, source) contains the word.
function help.search(word)
  local found = {}
  word = word:lower()
  for _, r in ipairs(records) do
    if (r.name .. "\n" .. help.text(r)):lower():find(word, 1, true) then found[#found + 1] = r end
  end
  table.sort(found, function(a, b) return a.name < b.name end)
  return found
end

return help
