-- q.load, q.save, q.open: round trips, the reference writer's bytes, errors.
local tap = dofile "tests/tap.lua"
local q = require "quench"

local path = os.tmpname()
local function bytes_of(p) return q.system.read_file(p) end

tap.test("round trip", function(t)
  local x = q.randn(3, 4)
  local tensors = {
    f32 = x, f64 = q.randn(5, "f64"), i32 = q.tensor({1, -2, 2147483647}, "i32"), bf16 = q.tensor({1, 0.5, 3}, "bf16"),
    strided = x:t(), scalar = q.tensor(3), empty = q.zeros(0, 3), ["a \"name\"\n"] = q.tensor{1 / 0, -1 / 0},
  }
  q.save(path, tensors, {note = "x\ny", format = "pt"})
  local back, metadata = q.load(path)
  t.equal(metadata.note, "x\ny", "metadata")
  for name, a in pairs(tensors) do
    local b = back[name]
    t.equal(table.concat(b:shape(), "x"), table.concat(a:shape(), "x"), name .. ": shape")
    t.equal(b:dtype(), name == "bf16" and "f32" or a:dtype(), name .. ": dtype")
    t.equal(q.json.encode(b:totable()), q.json.encode(a:totable()), name .. ": elements")
  end
  local first = bytes_of(path)
  q.save(path, back, metadata)
  back.bf16 = tensors.bf16
  q.save(path, back, metadata)
  t.ok(bytes_of(path) == first, "the same content gives the same bytes")
  t.equal(q.load(path, {dtype = "f64", only = {"f32"}}).f32:dtype(), "f64", "another dtype on request")
  t.equal(q.load(path, {dtype = "bf16", only = "^bf"}).bf16:dtype(), "bf16", "bf16 kept on request, names by pattern")
end)

tap.test("the reference writer's file", function(t) -- written by transformers with safetensors
  local reference = "tests/parity/files/mamba.safetensors"
  local tensors, metadata = q.load(reference)
  q.save(path, tensors, metadata)
  t.ok(bytes_of(path) == bytes_of(reference), "written by us: the same bytes")
end)

tap.test("without reading all", function(t)
  q.save(path, {b = q.ones(2, 3), a = q.tensor{0 / 0, 1, 1 / 0}})
  local f = q.open(path)
  t.equal(table.concat(f:names(), ","), "a,b", "names in order")
  t.equal(f:info("b").dtype .. " " .. table.concat(f:info("b").shape, "x"), "F32 2x3", "info")
  t.equal(f:nonfinite("a"), 2, "NaN and infinity are counted")
  t.equal(f:read("b"):sum():item(), 6, "read")
  t.ok(f:has("a") and not f:has("c"), "has")
  t.fails(function() f:read("c") end, "no tensor 'c'", "a name that is not there")
  f:close()
  t.fails(function() f:names() end, "closed", "a closed file")
  t.fails(function() q.load(path, {finite = true}) end, "'a' has 2 values that are NaN", "NaN as an error, if asked for")
end)

tap.test("errors", function(t)
  q.save(path, {weight = q.ones(100)})
  local whole = bytes_of(path)
  q.system.write_file(path, whole:sub(1, -9))
  t.fails(function() q.load(path) end, "weight.*cut off", "a truncated file")
  q.system.write_file(path, "hello world, this is no such file")
  t.fails(function() q.load(path) end, "no safetensors file", "another kind of file")
  t.fails(function() q.load("/no/such/model.safetensors") end, "/no/such/model.safetensors", "a missing file", true)
  t.fails(function() q.load "tests" end, "no model.safetensors", "a folder without one", true)
  q.system.write_file(path, whole)
  t.fails(function() q.load(path, {only = {"wieght"}}) end, "did you mean 'weight'", "a misspelt name")
  t.fails(function() q.save(path, {x = 1}) end, "'x' must be a tensor", "no tensor")
  t.fails(function() q.save(path, {q.ones(1)}) end, "names must be strings", "a list")
  t.fails(function() q.save(path, {x = q.ones(1)}, {a = 1}) end, "metadata 'a' must be a string", "metadata")
  t.fails(function() q.save("/no/such/folder/x", {x = q.ones(1)}) end, "/no/such/folder", "no folder", true)
  t.ok(bytes_of(path) == whole, "the old file is still there after failed writes")
end)

-- Every allocation of a load and of a save fails once: an error, and nothing leaks (tap checks).
tap.test("no memory", function(t)
  q.save(path, {a = q.ones(10), b = q.ones(20):view(4, 5):t()}, {note = "x"})
  local tensors, failures = q.load(path), {load = 0, save = 0}
  for n = 1, 60 do
    for name, fn in pairs{load = function() q.load(path) end, save = function() q.save(path .. ".2", tensors) end} do
      q.system.fail_at(n)
      if not pcall(fn) then failures[name] = failures[name] + 1 end
      q.system.fail_at(0)
    end
  end
  t.ok(failures.load > 5 and failures.save > 3, ("%d loads and %d saves failed cleanly"):format(failures.load, failures.save))
  os.remove(path .. ".2")
end)

os.remove(path)
tap.done()
