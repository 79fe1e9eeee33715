--- quench help: the records of help.lua for the command line, and as the pages of docs/reference.

local system = require "quench.c.system"
local help = require "quench.help"
local machine = require "quench.c.machine"
local options = require "quench.options"

local reference = {}

--- Loads every module, so that all records are there.
function reference.load_all()
  local q = require "quench"
  require "quench.records"
  require "quench.language" -- behind q.data.language
  for name in pairs(getmetatable(q).modules) do
    if not q[name] then error("no module " .. name, 0) end
  end
end

--- The page a record belongs to: "q.optim.adamw" -> "optim", "t:sum" -> "t", "q.zeros" -> "q".
local function page_of(record)
  return record.name:match("^q%.([%w_]+)%.") or record.name:match("^([%w_]+):") or
    getmetatable(require "quench").modules[record.name:match("^q%.([%w_]+)$")] and record.name:match("^q%.([%w_]+)$") or "q"
end

--- Pages in alphabetical order: {name, records in order of declaration}.
local function pages()
  reference.load_all()
  local by_name, list = {}, {}
  for _, r in ipairs(help.records()) do
    local name = page_of(r)
    if not by_name[name] then
      by_name[name] = {name = name, records = {}}
      list[#list + 1] = by_name[name]
    end
    table.insert(by_name[name].records, r)
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  for _, page in ipairs(list) do table.sort(page.records, function(a, b) return a.name < b.name end) end
  return list
end

local function escape(text) return (text:gsub("|", "\\|"):gsub("\n", " ")) end

local function option_table(add, spec)
  add "| option | type | default | meaning |"
  add "| --- | --- | --- | --- |"
  for _, entry in ipairs(spec) do
    local default, notes = help.option_parts(entry)
    add(("| `%s` | %s | %s | %s%s |"):format(entry[1], escape(entry[2]), escape(default), escape(entry.doc or ""),
      notes ~= "" and " (" .. escape(notes) .. ")" or ""))
  end
  add ""
end

local function record_markdown(add, r)
  add(("## %s\n"):format(r.name))
  add(("```\n%s\n```\n"):format(r.signature))
  add(r.doc .. "\n")
  if r.text then add(r.text .. "\n") end
  if r.options then option_table(add, r.options) end
  for _, key in ipairs{"shapes", "returns", "errors", "source"} do
    if r[key] then add(("*%s:* %s\n"):format(key:gsub("^%l", string.upper), r[key])) end
  end
  if r.example then add(("```lua\n%s\n```\n"):format((r.example:gsub("^%s*\n", ""):gsub("%s+$", "")))) end
  if r.see then add("See also: " .. table.concat(r.see, ", ") .. ".\n") end
end

local titles = {q = "Tensors and the top level", t = "Methods of tensors", ctx = "The context of a recipe"}

--- Writes one page a module, and README.md with all names, into the folder.
function reference.markdown(folder)
  system.make_directories(folder)
  local index = {"# Reference\n", "Made by `make docs` from the records that `help()` shows; do not edit.\n"}
  for _, page in ipairs(pages()) do
    local lines = {}
    local function add(text) lines[#lines + 1] = text end
    add(("# %s\n"):format(titles[page.name] or "q." .. page.name))
    for _, r in ipairs(page.records) do record_markdown(add, r) end
    system.write_file(("%s/%s.md"):format(folder, page.name), table.concat(lines, "\n"))
    index[#index + 1] = ("## [%s](%s.md)\n"):format(titles[page.name] or "q." .. page.name, page.name)
    for _, r in ipairs(page.records) do index[#index + 1] = ("- `%s`: %s"):format(r.name, r.doc) end
    index[#index + 1] = ""
  end
  system.write_file(folder .. "/README.md", table.concat(index, "\n"))
end

local function print_index()
  local columns = machine.terminal_size(1)
  for _, page in ipairs(pages()) do
    io.write(titles[page.name] or "q." .. page.name, "\n")
    for _, r in ipairs(page.records) do io.write(help.folded(("  %-28s %s"):format(r.name, r.doc), 31, columns), "\n") end
  end
  io.write "\nquench help NAME tells more.\n"
end

local SHORTEST, MOST = 3, 20 -- letters of a word that is looked for inside others; records shown then

--- What can be meant by a word that is no name: the functions of a module (then also true), names that contain it, pages
-- that have it.
local function meant(word, all_pages)
  for _, page in ipairs(all_pages) do
    if page.name == (word:match("^q%.([%w_]+)$") or word) then return page.records, true end
  end
  if #word < SHORTEST then return {} end
  local found = help.named(word)
  return #found > 0 and found or help.search(word)
end

--- The text to show for a word: its record, else the records that may be meant, else nil and a suggestion.
function reference.lookup(word, columns)
  local r = help.find(word)
  if r then return help.text(r, columns) end
  local all_pages = pages()
  r = help.find(word) -- all are loaded now
  if r then return help.text(r, columns) end
  local found, whole = meant(word, all_pages)
  local shown = whole and #found or math.min(#found, MOST)
  if shown > 0 then
    local text = help.list({unpack(found, 1, shown)}, columns)
    return shown == #found and text or ("%s\n... and %d more, which ??%s at the prompt lists"):format(text, #found - shown, word)
  end
  local names = {}
  for _, record in ipairs(help.records()) do names[#names + 1] = record.name:match("[^.:]+$") end
  for _, page in ipairs(all_pages) do names[#names + 1] = page.name end
  return nil, ("no help on '%s'%s"):format(word, options.suggest(word, names))
end

--- quench help [WORD | --markdown=FOLDER]
function reference.main(word)
  if not word then return print_index() end
  local folder = word:match("^%-%-markdown=(.+)$")
  if folder then return reference.markdown(folder) end
  if word:sub(1, 2) == "--" then error("quench help [WORD | --markdown=FOLDER]", 0) end
  local text, message = reference.lookup(word, (machine.terminal_size(1)))
  if not text then error(message, 0) end
  io.write(text, "\n")
end

return reference
