-- JSON in Lua: exact round trips, the rules for NaN, null and tables, errors with their place.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local json = q.json

tap.test("reading", function(t)
  local v = json.decode '{"a": [1, -2.5e-3, true, false, "x\\u00e9\\n"], "b": {"c": {}}, "n": null, "l": [null, 1]}'
  t.equal(#v.a, 5, "list")
  t.equal(v.a[2], -2.5e-3, "number")
  t.equal(v.a[5], "x\195\169\n", "string")
  t.equal(v.n, nil, "a null in an object is left out")
  t.equal(v.l[1], json.null, "a null in a list is kept")
  t.equal(json.decode('{"n": null}', {nulls = true}).n, json.null, "or in an object, if asked for")
  t.equal(json.decode '"a\\u0000b"', "a\0b", "a zero byte in a string")
  t.equal(json.decode "18446744073709551616", 2 ^ 64, "an integer beyond 64 bits is a double")
end)

tap.test("numbers come back exactly", function(t)
  local stream, ffi, wrong, longest = q.stream(1, "json"), require "ffi", 0, 0
  local bits = ffi.new "union { double d; uint32_t w[2]; }"
  for _ = 1, 20000 do
    local high = stream:below(2 ^ 32)
    if math.floor(high / 2 ^ 20) % 2048 < 2047 then -- finite; LuaJIT must not be shown NaNs with odd payloads
      bits.w[0], bits.w[1] = stream:below(2 ^ 32), high
      local s = json.encode(bits.d)
      longest = math.max(longest, #s)
      if json.decode(s) ~= bits.d then wrong = wrong + 1 end
    end
  end
  t.equal(wrong, 0, "random doubles")
  t.ok(longest <= 24, "no more than 17 digits")
  t.equal(json.encode(0.1), "0.1", "the shortest form")
  t.equal(json.encode(1 / 3), "0.3333333333333333", "16 digits where they do")
  t.equal(json.encode(5e-324), "4.94065645841247e-324", "the smallest double")
  t.equal(json.encode(2 ^ 53 + 2), "9007199254740994", "large integers")
  t.equal(1 / json.decode(json.encode(-0.0)), -math.huge, "minus zero")
end)

tap.test("rules", function(t)
  t.equal(json.encode{0 / 0, 1 / 0, -1 / 0}, '["NaN","Infinity","-Infinity"]', "NaN and infinities are strings")
  t.equal(tonumber(json.decode '["-Infinity"]'[1]), -math.huge, "which tonumber reads")
  t.equal(json.encode{b = 1, a = {c = 2, B = 3}}, '{"a":{"B":3,"c":2},"b":1}', "names in byte order")
  t.equal(json.encode{}, "{}", "an empty table is an object")
  t.equal(json.encode(json.list{}), "[]", "unless it is marked")
  t.equal(json.encode(json.decode '{"a":[],"b":{}}'), '{"a":[],"b":{}}', "or was read as a list")
  t.equal(json.encode(json.null), "null", "null")
  t.equal(json.encode("a\"\\\n\1\127"), '"a\\"\\\\\\n\\u0001\\u007f"', "escapes")
  t.equal(json.encode("\255x\224\128"), '"\239\191\189x\239\191\189\239\191\189"', "what is not UTF-8 becomes U+FFFD")
  t.equal(json.encode({a = {1, 2}, b = {"x"}}, {indent = 2}), '{\n  "a": [1,2],\n  "b": [\n    "x"\n  ]\n}', "indented")
end)

tap.test("errors", function(t)
  t.fails(function() json.decode('{"a": 1,\n "a": 2}', {name = "run.json"}) end, "run.json:2:4", "name, line and column", true)
  t.fails(function() json.decode "[1, 2" end, "not JSON", "cut off")
  t.fails(function() json.decode "[NaN]" end, "not JSON", "a bare NaN")
  t.fails(function() json.decode "" end, "not JSON", "nothing")
  t.fails(function() json.decode(("["):rep(201) .. ("]"):rep(201)) end, "deeper than 200", "nesting")
  t.fails(function() json.decode("[1,2,3]", {limit = 3}) end, "at most 3", "size")
  t.fails(function() json.decode(3) end, "string expected", "no string")
  t.fails(function() json.read "/no/such.json" end, "/no/such.json", "a missing file")
  t.fails(function() json.encode{x = {print}} end, "function at value.x[1]", "the path to what has no JSON", true)
  t.fails(function() json.encode{1, 2, a = 3} end, "neither a list", "a mixed table")
  t.fails(function() json.encode{[1] = 1, [3] = 3} end, "neither a list", "a list with a hole")
  t.fails(function() json.encode{q.zeros(2)} end, "userdata at", "a tensor")
  local loop = {}
  loop.a = loop
  t.fails(function() json.encode(loop) end, "deeper than 200", "a table that holds itself")
  t.fails(function() json.encode(1, {indnet = 2}) end, "did you mean 'indent'", "a misspelt option")
end)

tap.done()
