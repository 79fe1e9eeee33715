--- JSON (RFC 8259): strict reading, writing with exact numbers and the same bytes for the same value.
--
-- The rules where Lua and JSON differ:
--   numbers   doubles; written with the fewest digits that read back as the same double
--   NaN, inf  have no JSON: written as the strings "NaN", "Infinity", "-Infinity" (tonumber reads all three)
--   null      a null in an object is left out when reading, a null in a list is json.null; with {nulls = true}
--             all are json.null. Writing json.null gives null.
--   tables    keys 1 .. n: a list; string keys: an object, its names in byte order; anything else is an error.
--             An empty table is {}, unless it was read as [] or marked by json.list{}.
--   strings   bytes that are not UTF-8 are written as U+FFFD

local c = require "quench.c.json"
local text = require "quench.c.text"
local options = require "quench.options"
local help = require "quench.help"

local M = {}

M.null = c.null

local DEPTH = 200
local LIMIT = 2 ^ 28 -- bytes

--- Marks a table as a list, so that it is written as [] when empty.
function M.list(t) return setmetatable(t, c.array) end

local decode_options = options.spec("q.json.decode", {
  {"name", "string", default = "JSON text", doc = "what errors call the text: a file's path"},
  {"nulls", "boolean", default = false, doc = "keep null in objects as json.null"},
  {"limit", "integer", default = LIMIT, min = 0, unit = "bytes", doc = "longest text that is read"},
})

function M.decode(s, o)
  o = decode_options(o)
  if type(s) ~= "string" then options.fail("q.json.decode: a string expected, got %s", type(s)) end
  if #s > o.limit then options.fail("%s: %d bytes of JSON, at most %d are read (option limit)", o.name, #s, o.limit) end
  return c.decode(s, o.name, o.nulls)
end

--- Reads a file.
function M.read(path, o)
  local given = {name = path}
  for key, v in pairs(o or {}) do given[key] = v end
  return M.decode(require("quench.c.system").read_file(path), given)
end

local function number(v)
  if v ~= v then return '"NaN"' end
  if v == math.huge then return '"Infinity"' end
  if v == -math.huge then return '"-Infinity"' end
  if v == math.floor(v) and math.abs(v) < 1e15 then return ("%.0f"):format(v) end -- keeps -0
  for digits = 15, 16 do
    local s = ("%." .. digits .. "g"):format(v)
    if tonumber(s) == v then return s end
  end
  return ("%.17g"):format(v)
end

local escapes = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t", ["\r"] = "\\r", ["\b"] = "\\b", ["\f"] = "\\f"}

local function quoted(s)
  if s:find("[\128-\255]") then s = text.repair(s) end
  return '"' .. s:gsub('[%c"\\\127]', function(ch) return escapes[ch] or ("\\u%04x"):format(ch:byte()) end) .. '"'
end

--- "list", or the sorted names of an object; raises on tables that are neither.
local function kind(t, path)
  local names, n = {}, 0
  for key in pairs(t) do
    if type(key) == "string" then names[#names + 1] = key else n = n + 1 end
  end
  local is_list = getmetatable(t) == c.array
  if #names == 0 and (n > 0 or is_list) and n == #t then return "list" end
  if n > 0 or is_list then
    options.fail("q.json.encode: the table at %s is neither a list (keys 1 to n) nor an object (keys that are strings)", path)
  end
  table.sort(names)
  return names
end

local write

local function write_list(out, t, indent, level, path)
  for i = 1, #t do
    out[#out + 1] = (i > 1 and "," or "") .. (indent and "\n" .. indent:rep(level) or "")
    write(out, t[i], indent, level + 1, path .. "[" .. i .. "]")
  end
end

local function write_object(out, t, names, indent, level, path)
  for i, name in ipairs(names) do
    out[#out + 1] = (i > 1 and "," or "") .. (indent and "\n" .. indent:rep(level) or "")
    out[#out + 1] = quoted(name) .. (indent and ": " or ":")
    write(out, t[name], indent, level + 1, path .. "." .. name)
  end
end

local function all_numbers(t)
  for i = 1, #t do
    if type(t[i]) ~= "number" then return false end
  end
  return true
end

local function write_table(out, t, indent, level, path)
  if level > DEPTH then options.fail("q.json.encode: nested deeper than %d levels at %s...", DEPTH, path:sub(1, 60)) end
  local names = kind(t, path)
  local list = names == "list"
  if list and all_numbers(t) then indent = nil end -- a row of numbers stays on its line
  out[#out + 1] = list and "[" or "{"
  if list then write_list(out, t, indent, level, path) else write_object(out, t, names, indent, level, path) end
  local empty = list and #t == 0 or not list and #names == 0
  out[#out + 1] = (indent and not empty and "\n" .. indent:rep(level - 1) or "") .. (list and "]" or "}")
end

function write(out, v, indent, level, path)
  local t = type(v)
  if v == M.null then out[#out + 1] = "null"
  elseif t == "number" then out[#out + 1] = number(v)
  elseif t == "string" then out[#out + 1] = quoted(v)
  elseif t == "boolean" then out[#out + 1] = tostring(v)
  elseif t == "table" then write_table(out, v, indent, level, path)
  else options.fail("q.json.encode: a %s at %s has no JSON", t, path) end
end

local encode_options = options.spec("q.json.encode", {
  {"indent", "integer", default = 0, min = 0, max = 16, doc = "spaces a level; 0: one line"},
})

function M.encode(v, o)
  o = encode_options(o)
  local out = {}
  write(out, v, o.indent > 0 and (" "):rep(o.indent) or nil, 1, "value")
  return table.concat(out)
end

help.add{"q.json.decode", M.decode, "decode(text, options?) -> value",
  "Reads JSON strictly: no duplicate names, no trailing text, UTF-8 only, at most 200 levels.",
  text = [[
Numbers become doubles. A null in an object is left out; in a list it becomes q.json.null (with nulls = true, in
objects as well). NaN and infinities, which JSON lacks, come as the strings that encode writes; tonumber reads them.]],
  options = decode_options, errors = "the text's name, line and column, and what is wrong there",
  source = "RFC 8259", example = [[q.json.decode('{"lr": 1e-3, "betas": [0.9, 0.95]}').betas[2]   --> 0.95]],
  see = {"q.json.encode", "q.json.read"}}

help.add{"q.json.read", M.read, "read(path, options?) -> value", "Reads a JSON file; as q.json.decode, errors name the file.",
  options = decode_options, errors = "a missing file, or what q.json.decode says",
  example = [[local config = q.json.read "model/config.json"]],
  see = {"q.json.decode"}}

help.add{"q.json.encode", M.encode, "encode(value, options?) -> text", "Writes JSON; the same value gives the same bytes.",
  text = [[
Names in byte order; numbers with the fewest digits that read back exactly; NaN, inf, -inf as the strings "NaN",
"Infinity", "-Infinity". A table with keys 1 to n is a list, with string keys an object; an empty one is {} unless
q.json.list{} marked it. Strings that are not UTF-8 are repaired with U+FFFD.]],
  options = encode_options, errors = "functions, tensors, mixed tables, more than 200 levels: with the path to them",
  source = "RFC 8259", example = [[q.json.encode({loss = 0.1, steps = {1, 2}})   --> {"loss":0.1,"steps":[1,2]}]],
  see = {"q.json.decode", "q.json.list"}}

help.add{"q.json.list", M.list, "list(t) -> t", "Marks a table as a list, so that an empty one is written as [].",
  example = [[q.json.encode(q.json.list{})   --> [] ]], see = {"q.json.encode"}}

return M
