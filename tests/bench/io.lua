-- Speed of files, JSON and tokenizers.
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("io")

local path = os.tmpname()
os.remove(path)
path = path .. ".safetensors"

local function case(name, bytes, fn)
  bench.case(name, ("%.1f MB"):format(bytes / 1e6), fn, {more = function(median) return {mb_per_s = bytes / 1e6 / median} end})
end

local n = bench.pick(2 ^ 24, 2 ^ 14)
local x = q.randn(n / 1024, 1024)
q.save(path, {f32 = x, bf16 = x:to "bf16"})
local file = q.open(path)
case("read f32", 4 * n, function() file:read("f32"):free() end)
case("read bf16 as f32", 2 * n, function() file:read("bf16"):free() end)
file:close()
case("save f32", 4 * n, function() q.save(path, {f32 = x}) end)
os.remove(path)

local words, stream = {}, q.stream(1, "words")
for i = 1, bench.pick(200000, 2000) do -- words of a Zipf-like text, so that the cache of words does what it does on prose
  words[i] = ("w%d"):format(math.floor(math.exp(stream:uniform() * math.log(20000))))
end
local text = table.concat(words, " ")
for _, name in ipairs{"gpt2_style", "llama3_style", "llama2_style"} do
  local t = q.tokenizer.load("tests/parity/tok/" .. name .. ".tokenizer.json")
  case("encode, " .. name, #text, function() t:encode(text, {tensor = true}):free() end)
end
case("train a BPE", #text, function() q.tokenizer.train(text, {vocab_size = bench.pick(1024, 280)}) end)

local rows = {}
for i = 1, bench.pick(20000, 100) do rows[i] = {step = i, loss = math.sin(i), note = "a line of a log"} end
local json = q.json.encode(rows)
case("JSON encode", #json, function() q.json.encode(rows) end)
case("JSON decode", #json, function() q.json.decode(json) end)
