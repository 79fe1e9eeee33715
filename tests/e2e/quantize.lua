--- quantize.lua - models and weight files from the command line: quench quantize, eval, inspect.

local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"

local function text_of(n)
  local words, s, out = {"the ", "cat ", "sat ", "on ", "a ", "mat. ", "dog ", "ran.\n"}, q.stream(1, "text"), {}
  for i = 1, n do out[i] = words[s:below(#words) + 1] end
  return table.concat(out)
end

local folder = sh.folder()
q.models.new("gpt_neox", {vocab_size = 256, hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, max_position_embeddings = 64,
  initializer_range = 0.1}):save(folder .. "/model")
q.system.write_file(folder .. "/text.txt", text_of(4000))
local base = ("cd '%s' && "):format(folder)
local text = " --text text.txt --context 32 --tokens 512"
local apart = " --calibration text.txt" -- losses are then of the whole text, as in quench eval

tap.test("quench quantize", function(t)
  local out, err, status = sh(base .. "$Q quantize model out --method gptq --bits 3 --group 16 --samples 8" .. text)
  t.equal(status, 0, "succeeds", err)
  t.ok(out:find("layers.0.attention.query_key_value", 1, true) and out:find("5.188 bits a weight", 1, true), "a line a layer, and the bits", out)
  t.ok(out:find("loss %d+%.%d+ %-> %d+%.%d+ nats"), "the loss before and after", out)
  local report = json.read(folder .. "/out/quantize.json")
  t.equal(#report.layers, 8, "quantize.json has every layer")
  t.ok(report.layers[1].output_error > 0 and report.loss.after > 0, "with its errors")
  local before, after = q.models.load(folder .. "/model"), q.models.load(folder .. "/out")
  local seen, count = {}, 0
  for _, x in ipairs(after:linears()[1].weight:narrow(1, 1, 1):narrow(2, 1, 16):totable()[1]) do
    if not seen[x] then seen[x], count = true, count + 1 end
  end
  t.ok((before:linears()[1].weight - after:linears()[1].weight):abs():max():item() > 0 and count <= 8, "the written weights are the quantized ones")
  local again = sh(base .. "$Q quantize model again --method gptq --bits 3 --group 16 --samples 8" .. text
    .. " && cmp out/model.safetensors again/model.safetensors && echo same")
  t.ok(again:find("same"), "twice the same bytes")
  out, err, status = sh(base .. "$Q quantize model w4 --method=rtn --format=nvfp4 --no-loss --text=text.txt")
  t.ok(status == 0 and not out:find("loss"), "round to nearest, without losses", err)
end)

tap.test("quench quantize --packed", function(t)
  local out, err, status = sh(base .. "$Q quantize model packed --packed --method gptq --bits 3 --group 16 --samples 8" .. text)
  t.equal(status, 0, "succeeds", err)
  local bytes, weights = out:match("in the file: (%d+) bytes for (%d+) weights, 5.18%d bits")
  t.ok(bytes and tonumber(weights) == 2 * 12 * 32 * 32, "says what the weights take", out)
  local packed, plain, total = q.open(folder .. "/packed"), q.open(folder .. "/out"), 0
  for _, name in ipairs(packed:names()) do
    if not plain:has(name) then total = total + packed:info(name).bytes end
  end
  packed:close() plain:close()
  t.equal(total, tonumber(bytes), "and that is what they take")
  local eval, e2 = sh(base .. "$Q eval out packed" .. text)
  t.ok(eval:find("packed[^\n]* 0%.000%%"), "quench eval reads it: the loss is that of the values", eval .. e2)
  out, err, status = sh(base .. "$Q quantize model blocks --packed --disk --method gptq --bits 3 --group 16 --samples 8" .. text)
  t.ok(status == 0 and out:find(bytes .. " bytes", 1, true), "block by block the same", out .. err)
  local same = sh(base .. "$Q quantize model m1 --batch 1 --bits 3 --group 16 --samples 8 --no-loss" .. text
    .. " && $Q quantize model d1 --disk --bits 3 --group 16 --samples 8 --no-loss" .. text .. " && echo done")
  local in_memory, on_disk = q.models.load(folder .. "/m1"):tensors(), q.models.load(folder .. "/d1"):tensors()
  for name, w in pairs(in_memory) do
    if (w - on_disk[name]):abs():max():item() ~= 0 then t.ok(false, name .. ": block by block other bits than in memory") end
  end
  t.ok(same:find("done"), "block by block, and in memory with its batch of 1", same)
  out = sh(base .. "$Q quantize model w4a4 --method rtn --bits 4 --activations int4_restricted" .. text)
  t.ok(out:find("--packed keeps that", 1, true), "what plain weights cannot say is said", out)
  out = sh(base .. "$Q quantize model w4a4p --packed --method rtn --bits 4 --activations int4_restricted" .. apart .. text
    .. " && $Q eval model w4a4p" .. text)
  local after = out:match("%-> ([%d.]+) nats")
  t.equal(out:match("w4a4p%s+([%d.]+)"), after, "rounded inputs come back from the file", out)
end)

tap.test("quench quantize --rotate", function(t)
  for _, kind in ipairs{"hadamard", "random", "online"} do
    local out, err = sh(base .. "$Q quantize model turned-" .. kind .. " --rotate " .. kind .. " --method rtn --bits 8 --group 1" .. apart .. text
      .. " && $Q eval model turned-" .. kind .. text)
    local change = tonumber(out:match("nats a token %(([-+%d.]+) %%"))
    t.ok(change and math.abs(change) <= 0.001, kind .. ": the function stays (a group of one weight is not rounded)", out .. err)
    t.ok(out:match("%-> ([%d.]+) nats") == out:match("turned%-" .. kind .. "%s+([%d.]+)"), "and so it does in the file", out)
  end
  local out, err, status = sh(base .. "$Q quantize model no --disk --rotate online --method rtn" .. text)
  t.ok(status == 1 and err:find("whole model"), "not block by block", out .. err)
end)

tap.test("quench eval", function(t)
  local out, err, status = sh(base .. "$Q eval model out" .. text)
  t.equal(status, 0, "succeeds", err)
  local lines = {}
  for line in out:gmatch("[^\n]+") do lines[#lines + 1] = line end
  t.equal(#lines, 3, "a header and a line a model")
  local loss = tonumber(lines[2]:match("model%s+([%d.]+)"))
  t.near(loss, 5.545, 0.3, "an untrained model: near the log of 256")
  t.ok(lines[3]:find("%%$"), "and the change against the first")
  local whole = json.decode((sh(base .. "$Q eval model --json --text text.txt --context 32 --tokens 1000000")))
  local content = q.system.read_file(folder .. "/text.txt")
  local expected = q.eval.text(q.models.load(folder .. "/model"), content, {tokenizer = q.tokenizer.bytes(), block = 32})
  t.equal(whole.tokens, expected.tokens, "a file is measured whole")
  t.near(whole.bits_per_byte, expected.bits_per_byte, 1e-5, "in bits a byte of the file")
end)

tap.test("quench inspect", function(t)
  local out, err, status = sh(base .. "$Q inspect model --only mlp")
  t.equal(status, 0, "succeeds", err)
  local line = out:match("[^\n]*layers%.0%.mlp%.dense_h_to_4h%.weight[^\n]*")
  local numbers = {}
  for x in line:gmatch("%s([%d.e+-]+)") do numbers[#numbers + 1] = tonumber(x) end
  t.ok(line:find("128x32", 1, true) and #numbers >= 8, "a weight: shape and eight numbers", line)
  local n = #numbers
  t.ok(numbers[n] < numbers[n - 1] and numbers[n - 1] < numbers[n - 2] and numbers[n - 2] < numbers[n - 3], "errors fall with the bits", line)
  t.ok(not out:find("attention"), "only the names asked for")
  q.save(folder .. "/odd.safetensors", {zero = q.zeros(2, 8), one = q.zeros(8) + 1, nan = q.zeros(3) / 0})
  out = sh(base .. "$Q inspect odd.safetensors")
  t.ok(out:find("\nzero [^\n]* %- +%- +0 +0 +0 +0") and out:find("\none [^\n]* 1 +1 +%- +1"), "what a constant does not have is a dash", out)
  t.ok(out:find("\nnan [^\n]*holds NaN") and not out:find(" %-?nan[ \n]") and not out:find(" inf[ \n]"), "NaN is said in words", out)
  out = sh(base .. "$Q inspect model --list --only bias")
  t.ok(out:find("bias") and not out:find("weight"), "names asked for in a list")
end)

tap.test("--help", function(t)
  for _, command in ipairs{"quantize", "trajectory"} do
    local out = sh(base .. "$Q " .. command .. " --help")
    for _, line in ipairs{"awq +AWQ: channel scales", "gptaq +GPTAQ: ", "gptq +GPTQ: column by column", "hqq +HQQ: ", "int8_outlier +LLM.int8: ",
        "rtn +round to nearest", "smoothquant +SmoothQuant: "} do
      t.ok(out:find("\n  " .. line), command .. " says what each method does: " .. line, out)
    end
    local count = {}
    for name in out:gmatch("\n  %-%-([%w_]+)") do count[name] = (count[name] or 0) + 1 end
    for name, n in pairs(count) do t.equal(n, 1, command .. ": --" .. name .. " is there once") end
  end
end)

tap.test("options with and without a value", function(t)
  local first
  for _, how in ipairs{"--hadamard", "--hadamard=true", "--hadamard 32", "--hadamard=32"} do
    local out, err, status = sh(base .. "$Q quantize model turned --method rtn --no-loss --skip 4h_to_h " .. how .. text)
    local bytes = status == 0 and q.system.read_file(folder .. "/turned/model.safetensors")
    first = first or bytes
    t.ok(bytes and bytes == first, how .. ": blocks of 32, which are all of the inputs", out .. err)
  end
end)

tap.test("the model itself is never written to", function(t)
  for _, out in ipairs{"model", "model/", "./model", "link"} do
    sh(base .. "ln -sfn model link")
    for _, how in ipairs{"", " --disk"} do
      local _, err, status = sh(base .. "$Q quantize model " .. out .. " --method rtn --no-loss" .. how .. text)
      t.ok(status == 1 and err:find("would be overwritten", 1, true), "quench quantize model " .. out .. how, err)
    end
  end
  t.fails(function() q.disk.quantize(folder .. "/model", folder .. "/model", {method = "rtn"}) end, "would be overwritten", "q.disk.quantize")
  t.fails(function() q.disk.average({folder .. "/model", folder .. "/out"}, folder .. "/out") end, "would be overwritten", "q.disk.average")
end)

tap.test("errors are one line", function(t)
  for line, pattern in pairs{
    ["$Q quantize model out --method hqq --format nf4 --text text.txt"] = "unknown parameter 'format'",
    ["$Q quantize model out --format nf4 --bits 3 --text text.txt"] = "bits and format exclude each other",
    ["$Q inspect model --only nothing.like.it"] = "no tensor of 'model' has a name like", ["$Q inspect model --only ["] = "'[' is no Lua pattern",
    ["$Q eval model nowhere --text text.txt"] = "'nowhere' has no config.json", ["$Q eval model --no-loss"] = "nothing to measure",
    ["$Q quantize model out --skip --text text.txt"] = "--skip needs a value", ["$Q eval model --context --no-loss"] = "--context needs a value",
    ["$Q quantize model /proc/none/out --text text.txt"] = "/proc/none",
    ["$Q quantize model"] = "two folders", ["$Q quantize nowhere out"] = "nowhere", ["$Q quantize model out --method gptk"] = "did you mean 'gptq'",
    ["$Q quantize model out --bitz 3 --text text.txt"] = "unknown parameter 'bitz'",
      ["$Q quantize model out --bits nine --text text.txt"] = "expected integer",
    ["$Q eval"] = "usage", ["$Q inspect text.txt"] = "text.txt", ["$Q eval model --text nothere.txt"] = "nothere"} do
    local out, err, status = sh(base .. line)
    t.ok((err .. out):find(pattern, 1, true) and (status == 1 or pattern == "usage"), line .. ": " .. pattern, err .. out)
    t.ok(#err == 0 or select(2, err:gsub("\n", "\n")) <= 2, "short", err)
  end
end)

sh.clean()
tap.done()
