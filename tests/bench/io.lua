-- Speed of files, JSON and tokenizers: one JSON line a case.
local q = require "quench"

local path = os.tmpname()
os.remove(path)
path = path .. ".safetensors"

--- Best of three, in MB (10^6 bytes) a second.
local function case(name, bytes, fn)
  local best = math.huge
  for _ = 1, 3 do
    local start = q.system.clock()
    fn()
    best = math.min(best, q.system.clock() - start)
    collectgarbage()
  end
  print(q.json.encode{bench = "io", case = name, value = bytes / 1e6 / best, unit = "MB/s"})
end

local n = 2 ^ 24
local x = q.randn(n / 1024, 1024)
q.save(path, {f32 = x, bf16 = x:to "bf16"})
local file = q.open(path)
case("read f32", 4 * n, function() file:read("f32"):free() end)
case("read bf16 as f32", 2 * n, function() file:read("bf16"):free() end)
file:close()
case("save f32", 4 * n, function() q.save(path, {f32 = x}) end)
os.remove(path)

local words, stream = {}, q.stream(1, "words")
for i = 1, 200000 do -- words of a Zipf-like text, so that the cache of words does what it does on prose
  words[i] = ("w%d"):format(math.floor(math.exp(stream:uniform() * math.log(20000))))
end
local text = table.concat(words, " ")
for _, name in ipairs{"gpt2_style", "llama3_style", "llama2_style"} do
  local t = q.tokenizer.load("tests/parity/tok/" .. name .. ".tokenizer.json")
  case("encode, " .. name, #text, function() t:encode(text, {tensor = true}):free() end)
end
case("train a BPE of 1024", #text, function() q.tokenizer.train(text, {vocab_size = 1024}) end)

local rows = {}
for i = 1, 20000 do rows[i] = {step = i, loss = math.sin(i), note = "a line of a log"} end
local json = q.json.encode(rows)
case("JSON encode", #json, function() q.json.encode(rows) end)
case("JSON decode", #json, function() q.json.decode(json) end)
