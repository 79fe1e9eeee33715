-- Models larger than memory, evaluation sets and walks from the command line.
local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"

local dir = sh.folder()
local base = ("cd '%s' && "):format(dir)
local text = ("It is a truth that nobody here would deny, and so the rain fell on all of them alike. "):rep(16)
q.system.write_file(dir .. "/text.txt", text)

local function save(name, seed)
  local c = {vocab_size = 256, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, seed = seed, initializer_range = 0.3,
    max_position_embeddings = 64}
  q.models.new("gpt_neox", c):save(dir .. "/" .. name)
end
save("m", 0)

tap.test("inspect --list", function(t)
  local out, err, status = sh(base .. "$Q inspect m --list --only mlp")
  t.equal(err .. status, "0", "answers without complaint")
  t.ok(out:find("gpt_neox, 0.01478 M parameters: hidden_act = gelu, ", 1, true), "the family, its size and configuration", out)
  t.ok(out:find("gpt_neox.layers.1.mlp.dense_4h_to_h.weight%s+16x64%s+F32%s+4096"), "a tensor a line", out)
  t.ok(out:find("8 tensors, 17024 bytes", 1, true), "and the sum", out)
end)

tap.test("quantize and eval through files", function(t)
  local quantize = "$Q quantize m %s --bits 3 --group=8 --samples=4 --text text.txt --tokens 256 --calibration=text.txt --context=32 --batch 1"
  local out, err, status = sh(base .. quantize:format "m3" .. " --disk")
  t.equal(status, 0, "quantizes", err)
  local whole, complaint, code = sh(base .. quantize:format "w3")
  t.equal(code, 0, "in memory too", complaint)
  t.equal(out:match("loss [^\n]+"), whole:match("loss [^\n]+"), "to the same losses")
  local a, b = q.models.load(dir .. "/m3"):tensors(), q.models.load(dir .. "/w3"):tensors()
  local gap = 0
  for name, x in pairs(a) do gap = math.max(gap, (x - b[name]):abs():max():item()) end
  t.equal(gap, 0, "and the same bits")
  q.eval.write(dir .. "/c.jsonl", {{query = "It is", choices = {"a", "b"}, gold = 0}, {query = "And", choices = {"so", "on"}, gold = 1}})
  q.eval.write(dir .. "/p.jsonl", {{sentence_good = "the rain", sentence_bad = "rain the"}})
  local flags = " --text text.txt --context 32 --tokens 256 --choice c.jsonl --pairs p.jsonl --json"
  out, err, status = sh(base .. "$Q eval m m3" .. flags)
  t.equal(err .. status, "0", "evaluates")
  local lines = {}
  for line in out:gmatch("[^\n]+") do lines[#lines + 1] = json.decode(line) end
  t.near(lines[2].relative_ce, lines[2].loss / lines[1].loss - 1, 1e-9, "the damage against the first")
  t.ok(lines[1].acc and lines[1].acc_norm and lines[1].pairs_acc and lines[1].questions == 2, "choices and pairs", out)
  local streamed = json.decode((sh(base .. "$Q eval m --disk" .. flags)))
  t.near(streamed.loss, lines[1].loss, 1e-6, "block by block: the same")
  t.equal(streamed.acc, lines[1].acc, "in choices too")
  out = sh(base .. "$Q eval m --no-loss --pairs p.jsonl")
  t.ok(out:find("^model%s+pairs\nm%s+[01]%.0000\n$"), "a table of what was asked for", out)
  out = sh(base .. "$Q quantize m x --plan")
  t.ok(out:find("in all about 0.0%d GB"), "a plan", out)
end)

tap.test("trajectory", function(t)
  for i = 1, 3 do save("run/step" .. i * 100, i) end
  local out, err, status = sh(base .. "$Q trajectory 'run/step*' --text text.txt --method rtn --group 8 --bits 3,4 --block 64 --lawa 2 --out walk")
  t.equal(status, 0, "walks", err)
  t.ok(out:find("step100%s+100") and out:find("lawa2%-step300%s+300.-3 bits [+-]%d"), "a checkpoint a line", out)
  t.equal(#json.read(dir .. "/walk/results.json").points, 3, "results")
  t.ok(q.system.exists(dir .. "/walk/trajectory.png"), "and a figure")
  out, err, status = sh(base .. "$Q trajectory 'nothing*' --text=text.txt")
  t.ok(status == 1 and err:find("no model's folder matches nothing*", 1, true), "nothing to walk along", out .. err)
end)

sh.clean()
tap.done()
