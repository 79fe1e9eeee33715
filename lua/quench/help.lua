--- Help: one record a public function; help(), completion and docs/reference come from it.
--
--   help.add{"q.optim.adamw", q.optim.adamw, "adamw(params, options) -> optimizer",
--     "AdamW with decoupled weight decay.", options = spec,
--     source = "Loshchilov and Hutter, 2019", example = [[...]], see = {"q.schedule.wsd"}}

local help = {}

local records = {}                                -- in order of declaration
local by_name = {}
local by_value = setmetatable({}, {__mode = "k"}) -- functions and tables -> record

--- The signature with the full name: zeros(2, 3) -> q.zeros(2, 3).
local function in_full(signature, name)
  local last = name:match("^q%..-([%w_]+)$")
  return last and (signature:gsub("%f[%w_.:]" .. last .. "%f[({]", name)) or signature
end

--- Declares a record: {name, value or nil, signature, one-line meaning, text=, options=, returns=, shapes=,
-- errors=, source=, example=, see=}.
function help.add(record)
  local r = {name = record[1], value = record[2], signature = in_full(record[3], record[1]), doc = record[4]}
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

--- A text whose lines are folded between words at `columns` characters; what is folded is indented by `indent`
-- characters, or two more than its line. Without columns (no terminal), or with too few, nothing is folded.
function help.folded(text, indent, columns)
  if not columns or columns < 30 then return text end
  local out = {}
  for line in (text .. "\n"):gmatch("(.-)\n") do
    local margin = (" "):rep(math.min(indent or #line:match("^ *") + 2, math.floor(columns / 2)))
    while #line > columns do
      local cut = line:sub(1, columns + 1):match("^.*%S() ")
      if not cut or cut <= #margin + 1 then cut = line:match("^%s*%S+() ", #margin + 1) end -- a word wider than the window
      if not cut then break end
      out[#out + 1] = line:sub(1, cut - 1)
      line = margin .. line:sub(cut):gsub("^ +", "")
    end
    out[#out + 1] = line
  end
  return table.concat(out, "\n")
end

local WIDEST = {24, 16, 12} -- name, type and default of an option; longer ones push what follows them, in their line alone

--- The options of a spec, a line each: name, type, default, meaning and range, in columns.
function help.options(spec, columns)
  local rows, widths, lines = {}, {0, 0, 0}, {}
  for i, entry in ipairs(spec) do
    local default, notes = help.option_parts(entry)
    rows[i] = {entry[1], entry[2], default, (entry.doc or "") .. (notes ~= "" and " [" .. notes .. "]" or "")}
    for k, most in ipairs(WIDEST) do
      if #rows[i][k] <= most then widths[k] = math.max(widths[k], #rows[i][k]) end
    end
  end
  local layout = ("  %%-%ds  %%-%ds  %%-%ds  %%s"):format(unpack(widths))
  for i, row in ipairs(rows) do lines[i] = help.folded(layout:format(unpack(row)), widths[1] + widths[2] + widths[3] + 8, columns) end
  return table.concat(lines, "\n")
end

--- Names and meanings of records, a line each.
function help.list(some, columns)
  local lines = {}
  for i, r in ipairs(some) do lines[i] = help.folded(("%-28s %s"):format(r.name, r.doc), 29, columns) end
  return table.concat(lines, "\n")
end

--- A paragraph that was broken into long lines, as one line each, so that it can be folded anew.
local function flowing(text) return (text:gsub("(" .. ("[^\n]"):rep(90) .. "[^\n]*)\n%f[^%s]", "%1 ")) end

--- The text of a record, folded at `columns` if given.
function help.text(r, columns)
  local lines = {}
  local function add(text, indent) lines[#lines + 1] = help.folded(text, indent, columns) end
  add(r.signature)
  add("  " .. r.doc)
  if r.text then add("") add(columns and flowing(r.text) or r.text, 0) end
  if r.options then
    add("") add("options:")
    lines[#lines + 1] = help.options(r.options, columns)
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

--- Records that have the word, a plain text, in what text_of(record) gives, by name.
local function having(word, text_of)
  local found = {}
  for _, r in ipairs(records) do
    if text_of(r):lower():find(word:lower(), 1, true) then found[#found + 1] = r end
  end
  table.sort(found, function(a, b) return a.name < b.name end)
  return found
end

--- Records whose name contains the word.
function help.named(word) return having(word, function(r) return r.name end) end

--- Records whose name or page (signature, meaning, options, source) contains the word; those with it in the name come first.
function help.search(word)
  local found, seen = help.named(word), {}
  for _, r in ipairs(found) do seen[r] = true end
  for _, r in ipairs(having(word, help.text)) do
    if not seen[r] then found[#found + 1] = r end
  end
  return found
end

return help
