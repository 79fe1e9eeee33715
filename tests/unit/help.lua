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

tap.done()
