-- Every public function has a help record, and the records are sound.
local tap = dofile "tests/tap.lua"
local help = require "quench.help"
local modules = getmetatable(q).modules
require("quench.reference").load_all()

--- Functions and callable tables that a user reaches as q.name and q.module.name.
local function public()
  local found = {}
  local function add(name, value)
    local mt = type(value) == "table" and getmetatable(value)
    if type(value) == "function" or mt and mt.__call then found[#found + 1] = {name, value} end
  end
  for name, value in pairs(q) do
    add("q." .. name, value)
    if modules[name] and type(value) == "table" then
      for key, inner in pairs(value) do
        if type(key) == "string" and key:sub(1, 1) ~= "_" then add("q." .. name .. "." .. key, inner) end
      end
    end
  end
  for name, value in pairs(q.metatable) do
    if name:sub(1, 2) ~= "__" then add("t:" .. name, value) end
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return found
end

tap.test("every public function has a record", function(t)
  for _, item in ipairs(public()) do
    local r = help.find(item[1])
    t.ok(r or help.find(item[2]), item[1], "add one with help.add{...} beside the function")
  end
end)

tap.test("a word is found wherever a page has it", function(t)
  local function names(word)
    local list = {}
    for _, r in ipairs(help.search(word)) do list[#list + 1] = r.name end
    return " " .. table.concat(list, " ") .. " "
  end
  t.ok(names("Perplexity"):find(" q.eval.text ", 1, true), "in a signature")
  t.ok(names("recompute"):find(" q.train ", 1, true), "in an option")
  t.equal(names("no such word"), "  ", "nowhere")
  t.ok(names("gptq"):find("^ q%.quant%.gptq q%.%S+ "), "names come first", names("gptq"))
end)

tap.test("records are sound", function(t)
  for _, r in ipairs(help.records()) do
    local wrong
    if r.example then
      local chunk, message = loadstring(r.example)
      if not chunk and not loadstring("return " .. r.example) then wrong = "the example does not compile: " .. message end
    end
    for _, name in ipairs(r.see or {}) do
      if not help.find(name) then wrong = "see: no record " .. name end
    end
    if r.signature:find("%(") and not r.signature:find(r.name:match("[^.:]+$"), 1, true) then
      wrong = "the signature does not have the name: " .. r.signature
    end
    if #r.doc > 160 or not r.doc:match("[.?]$") then wrong = "the meaning is one line that ends with a full stop: " .. r.doc end
    t.ok(not wrong, r.name, wrong)
  end
end)

tap.test("looking up", function(t)
  t.ok(help.find(q.progress) == help.find("progress"), "by value and by name")
  t.ok(help.find("q.progress.message") == help.find(q.progress.message), "a field")
  t.ok(help.text(help.find("q.progress")):find("seconds between plain lines", 1, true), "options are in the text")
  local lookup = require("quench.reference").lookup
  t.ok(lookup("tearing"):find("q.progress.message", 1, true), "a word finds records")
  local text, message = lookup("progres_s")
  t.ok(text == nil and message:find("did you mean 'progress'", 1, true), "a near miss is suggested", message)
end)

tap.test("a word that is no name", function(t)
  local lookup = require("quench.reference").lookup
  for _, word in ipairs{"q.optim", "optim"} do
    local text = lookup(word)
    t.ok(text:find("q.optim.adamw  ", 1, true) and not text:find("q.train", 1, true), word .. ": the functions of the module, and no others", text)
  end
  local text, message = lookup("x")
  t.ok(text == nil and message == "no help on 'x'", "a letter is looked for in no page", text or message)
  text = lookup("rate")
  t.ok(text:find("q.fit.rate(", 1, true), "a record's last name", text)
  text = lookup("gradient")
  local _, lines = text:gsub("\n", "")
  t.ok(lines <= 20, "not pages of what happens to have the word", text)
  text = lookup("learning")
  t.ok(text:find("\n... and %d+ more") or select(2, text:gsub("\n", "")) < 20, "what is left out is counted", text)
  text, message = lookup("shceduel")
  t.ok(text == nil and message:find("'schedule'", 1, true), "modules are suggested too", message)
end)

tap.test("layout", function(t)
  local spec = {{"a", "number", default = 1, doc = "short", min = 0},
    {"a_name_of_twenty_four_ch", "string|table", doc = "the widest that moves others"},
    {"a_name_that_is_longer_than_that", "string", doc = "pushes its own line"}}
  t.equal(help.options(spec), "  a                         number        1  short [>= 0]\n"
    .. "  a_name_of_twenty_four_ch  string|table  -  the widest that moves others\n"
    .. "  a_name_that_is_longer_than_that  string        -  pushes its own line", "columns")
  t.equal(help.options(spec, 100), help.options(spec), "nothing is folded in a wide window")
  local narrow = help.options(spec, 66)
  t.ok(narrow:find("the widest that moves\n" .. (" "):rep(33) .. "others\n", 1, true), "folded, at most from the middle", narrow)
  for line in (help.text(help.find("q.train"), 72) .. "\n"):gmatch("(.-)\n") do t.ok(#line <= 72, "within the window", line) end
  t.ok(help.find("q.zeros").signature:find("^q%.zeros%(") and help.find("q.arange").signature:find("q.arange(stop) or q.arange(start", 1, true),
    "signatures have the full name")
end)

tap.done()
