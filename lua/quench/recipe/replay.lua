--- quench show and quench replay: a figure carries the recipe that made it.
--
-- ctx:figure writes the recipe's text, its parameters, seeds and the machine's stamp into the
-- text chunks of the PNG. `show` prints them; `replay` runs the recipe again from the picture
-- alone, and says whether the same bytes came out. A recipe is a program: look at those of
-- strangers with `show` before you replay them.

local system = require "quench.c.system"
local json = require "quench.json"
local progress = require "quench.progress"
local arguments = require "quench.recipe.arguments"
local recipe = require "quench.recipe"
local runner = require "quench.recipe.runner"

local replay = {}

--- The texts of a figure: source, parameters, seeds, figure, stamp.
local function read(path)
  if not path then error("which figure? give the path of a PNG that Quench made", 0) end
  local texts = require("quench.c.plot").read_text(path)
  if not texts["quench:source"] then error(path .. " was not made by a recipe: it has no recipe in it", 0) end
  return {
    name = texts["quench:recipe"], source = texts["quench:source"], figure = texts["quench:figure"], seeds = tonumber(texts["quench:seeds"]),
    parameters = json.decode(texts["quench:parameters"], {name = path}), stamp = json.decode(texts["quench:stamp"], {name = path}),
  }
end

local function sorted(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

local function print_table(title, t)
  io.write(title, "\n")
  for _, key in ipairs(sorted(t)) do
    io.write(("  %-16s %s\n"):format(key, type(t[key]) == "table" and json.encode(t[key]) or tostring(t[key])))
  end
end

--- quench show FIGURE.png
function replay.show(path)
  local made = read(path)
  io.write(("figure %s of recipe %s, %d seed%s\n\n"):format(made.figure, made.name, made.seeds, made.seeds == 1 and "" or "s"))
  print_table("parameters", made.parameters)
  io.write "\n"
  print_table("made by", made.stamp)
  io.write("\nrecipe\n", (made.source:gsub("[^\n]+", "  %0")), "\n")
end

--- What differs between the machine of the figure and this one, as text.
local function differences(then_, now)
  local list = {}
  for _, key in ipairs(sorted(then_)) do
    if tostring(then_[key]) ~= tostring(now[key]) then
      list[#list + 1] = ("%s was %s and is %s"):format(key, tostring(then_[key]), tostring(now[key]))
    end
  end
  return table.concat(list, "; ")
end

--- quench replay FIGURE.png [--key=value ...]: arguments change the parameters stored in the figure.
function replay.replay(path, list)
  local made, before = read(path), system.read_file(path) -- a run that is forced anew may write over the figure
  local r = recipe.from_text(made.source, made.name .. ".lua")
  local given, chosen = arguments.parse(list or {}, r.spec, runner.flags)
  if chosen.help then return require("quench.recipe.command").help(r) end
  progress.message("running the recipe stored in %s (quench show prints it)", path)
  local changed = next(given) ~= nil or chosen.seeds ~= nil
  for key, value in pairs(made.parameters) do
    if given[key] == nil then given[key] = value end
  end
  chosen.seeds = chosen.seeds or made.seeds
  local record = runner.perform(r, r.spec(given), runner.flags(chosen))
  local again = record and ("%s/%s.png"):format(record.folder, made.figure)
  if changed or not again or not system.exists(again) then return end
  if record.cached then io.write("this run was finished before: nothing was computed; --force runs it again\n") end
  if system.read_file(again) == before then io.write("the same bytes as ", path, "\n") return end
  local why = differences(made.stamp, require("quench.doctor").stamp())
  io.write("not the same bytes as ", path, why ~= "" and ": " .. why or " on this same machine", "\n")
end

return replay
