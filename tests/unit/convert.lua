-- Files of llama2.c and GGUF: written here from a small Llama, converted, and the same logits come out.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local ffi = require "ffi"

local folder = os.tmpname()
os.remove(folder)
q.system.make_directories(folder)

local config = {hidden_size = 32, intermediate_size = 64, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2,
  vocab_size = 300, max_position_embeddings = 16, rms_norm_eps = 1e-5, rope_theta = 10000, seed = 3}

local function model(tied)
  local given = {tie_word_embeddings = tied}
  for key, value in pairs(config) do given[key] = value end
  return q.models.new("llama", given)
end

local function parameters(m)
  local t = {}
  for _, p in ipairs(m:named_parameters()) do t[p.name or p[1]] = (p.tensor or p[2]):detach() end
  return t
end

--- Rows (head, 2, pair) to (head, pair, 2): the order of files with neighbouring pairs.
local function pairs_of(w, heads)
  return w:view(heads, 2, w:size(1) / heads / 2, w:size(2)):transpose(2, 3):contiguous():view(w:size(1), w:size(2))
end

local function bytes_of(t)
  t = t:contiguous()
  return ffi.string(ffi.cast("const char *", t:data()), t:nbytes())
end

local function i32(...) return bytes_of(q.tensor({...}, "i32")) end
local function u64(n) return bytes_of(q.tensor({n, 0}, "i32")) end

local function f32(x) return bytes_of(q.tensor{x}) end

-- ---- llama2.c ----

local function layers(p, part)
  local out = {}
  for i = 0, 1 do
    local w = p[("model.layers.%d.%s.weight"):format(i, part)]
    if part:find "q_proj" then w = pairs_of(w, 4) elseif part:find "k_proj" then w = pairs_of(w, 2) end
    out[i + 1] = bytes_of(w)
  end
  return table.concat(out)
end

local attention = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}
local mlp = {"mlp.gate_proj", "mlp.down_proj", "mlp.up_proj"}

local function llama2c(p, tied, version)
  local embed, norm = bytes_of(p["model.embed_tokens.weight"]), bytes_of(p["model.norm.weight"])
  local head = not tied and bytes_of(p["lm_head.weight"]) or ""
  local a, b, parts = layers(p, "input_layernorm"), layers(p, "post_attention_layernorm"), {}
  for _, part in ipairs(attention) do parts[#parts + 1] = layers(p, part) end
  if version == 0 then parts[#parts + 1] = b end
  for _, part in ipairs(mlp) do parts[#parts + 1] = layers(p, part) end
  local body = table.concat(parts)
  if version == 0 then
    return i32(32, 64, 2, 4, 2, tied and 300 or -300, 16) .. embed .. a .. body .. norm .. ("\0"):rep(16 * 8 * 4) .. head
  end
  local header = i32(0x616b3432, 1, 32, 64, 2, 4, 2, 300, 16) .. (tied and "\1" or "\0")
  return header .. ("\0"):rep(256 - #header) .. a .. b .. norm .. embed .. body .. head
end

local function same_logits(t, m, path, what)
  local ids = q.tensor({{1, 17, 299, 4, 4, 80}}, "i32")
  local got, expected = q.models.load(path):forward(ids), m:forward(ids)
  t.near(got:detach():view(-1):totable(), expected:detach():view(-1):totable(), 1e-6, what)
end

-- ids 0 .. 2 special, 3 .. 258 bytes, then pieces; scores as a SentencePiece trainer gives them: later, lower
local pieces = {" ", "a", "b", "c", "ab", " a", " ab", "abc"}
local scores = {[5] = -1, [6] = -2, [7] = -3, [8] = -4}

local function piece_list()
  local list = {{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}}
  for byte = 0, 255 do list[#list + 1] = {("<0x%02X>"):format(byte), 0} end
  for i, piece in ipairs(pieces) do list[#list + 1] = {piece, scores[i] or -1000} end
  for i = #list, 299 do list[i + 1] = {("unused%d"):format(i), -1e6} end
  return list
end

local function tokenizer_bin()
  local out = {i32(9)}
  for i, piece in ipairs(piece_list()) do out[i + 1] = f32(piece[2]) .. i32(#piece[1]) .. piece[1] end
  return table.concat(out)
end

tap.test("llama2.c", function(t)
  q.system.write_file(folder .. "/tokenizer.bin", tokenizer_bin())
  for version = 0, 1 do
    for _, tied in ipairs{true, false} do
      local m = model(tied)
      local path = folder .. "/model.bin"
      q.system.write_file(path, llama2c(parameters(m), tied, version))
      q.convert.llama2c{model = path, tokenizer = folder .. "/tokenizer.bin", out = folder .. "/out"}
      same_logits(t, m, folder .. "/out", ("version %d, %s: the same logits"):format(version, tied and "tied" or "untied"))
    end
  end
  local k = q.tokenizer.load(folder .. "/out")
  -- "abcab" -> " abcab": ab (-1) first, twice; then " a" is no more, " ab" (-3), "abc" needs ab + c but ab is taken
  t.equal(q.json.encode(k:encode "abcab"), q.json.encode{1, 3 + 256 + 6, 3 + 256 + 3, 3 + 256 + 4}, "merges by score")
  t.equal(k:decode(k:encode "abcab xyz"), "<s> abcab xyz", "decoded")
  t.equal(k:decode(k:encode("abcab xyz", {special = false})), "abcab xyz", "decoded without <s>")
  local whole = q.system.read_file(folder .. "/model.bin")
  for what, text in pairs{["cut off"] = whole:sub(1, -5), ["behind the last weight"] = whole .. "1234", ["no llama2.c model"] = ("\255"):rep(64),
    ["of version 2"] = i32(0x616b3432, 2) .. whole:sub(9)} do
    q.system.write_file(folder .. "/model.bin", text)
    t.fails(function() q.load(folder .. "/model.bin") end, what, what, true)
  end
  q.system.write_file(folder .. "/tokenizer.bin", tokenizer_bin():sub(1, -2))
  q.system.write_file(folder .. "/model.bin", whole)
  t.fails(function() q.convert.llama2c{model = folder .. "/model.bin", tokenizer = folder .. "/tokenizer.bin", out = folder .. "/out"} end,
    "tokenizer.bin", "a damaged tokenizer", true)
end)

-- ---- GGUF ----

local function text(s) return u64(#s) .. s end
local function pair(key, kind, value) return text(key) .. i32(kind) .. value end

local renamed = {["input_layernorm"] = "attn_norm", ["self_attn.q_proj"] = "attn_q", ["self_attn.k_proj"] = "attn_k", ["self_attn.v_proj"] = "attn_v",
  ["self_attn.o_proj"] = "attn_output", ["post_attention_layernorm"] = "ffn_norm", ["mlp.gate_proj"] = "ffn_gate", ["mlp.up_proj"] = "ffn_up",
  ["mlp.down_proj"] = "ffn_down"}

--- list: {name, shape (slowest first), ggml type, bytes}
local function gguf(keys, list)
  local out, data = {"GGUF", i32(3), u64(#list), u64(#keys), table.concat(keys)}, {}
  local at = 0
  for _, tensor in ipairs(list) do
    local sizes = {}
    for i = #tensor[2], 1, -1 do sizes[#sizes + 1] = u64(tensor[2][i]) end
    out[#out + 1] = text(tensor[1]) .. i32(#tensor[2]) .. table.concat(sizes) .. i32(tensor[3]) .. u64(at)
    local padded = tensor[4] .. ("\0"):rep(-#tensor[4] % 32)
    data[#data + 1], at = padded, at + #padded
  end
  local head = table.concat(out)
  return head .. ("\0"):rep(-#head % 32) .. table.concat(data)
end

local function model_keys()
  local list, values, texts = piece_list(), {}, {}
  for i, piece in ipairs(list) do
    if i > 3 then piece[1] = piece[1]:gsub(" ", "\226\150\129") end
    texts[i], values[i] = text(piece[1]), f32(piece[2])
  end
  return {pair("general.architecture", 8, text "llama"), pair("llama.embedding_length", 4, i32(32)), pair("llama.feed_forward_length", 4, i32(64)),
    pair("llama.block_count", 4, i32(2)), pair("llama.attention.head_count", 4, i32(4)), pair("llama.attention.head_count_kv", 4, i32(2)),
    pair("llama.context_length", 4, i32(16)), pair("llama.attention.layer_norm_rms_epsilon", 6, f32(1e-5)),
    pair("tokenizer.ggml.model", 8, text "llama"), pair("tokenizer.ggml.tokens", 9, i32(8) .. u64(300) .. table.concat(texts)),
    pair("tokenizer.ggml.scores", 9, i32(6) .. u64(300) .. table.concat(values))}
end

tap.test("GGUF: a model", function(t)
  local m, list = model(false), {}
  for name, w in pairs(parameters(m)) do
    local layer, part = name:match "^model%.layers%.(%d)%.(.*)%.weight$"
    local outer = {["model.embed_tokens.weight"] = "token_embd.weight", ["lm_head.weight"] = "output.weight",
      ["model.norm.weight"] = "output_norm.weight"}
    if part == "self_attn.q_proj" then w = pairs_of(w, 4) elseif part == "self_attn.k_proj" then w = pairs_of(w, 2) end
    list[#list + 1] = {layer and ("blk.%s.%s.weight"):format(layer, renamed[part]) or outer[name], w:shape(), 0, bytes_of(w)}
  end
  local path = folder .. "/model.gguf"
  q.system.write_file(path, gguf(model_keys(), list))
  q.convert.gguf{model = path, out = folder .. "/fromgguf"}
  same_logits(t, m, folder .. "/fromgguf", "the same logits")
  t.equal(q.json.encode(q.tokenizer.load(folder .. "/fromgguf"):encode "abcab"), "[1,265,262,263]", "its tokenizer")
  t.equal(q.open(path):metadata()["llama.block_count"], "2", "metadata as text")
end)

tap.test("GGUF: blocks", function(t)
  local stream, random = q.stream(1, "blocks"), {}
  local function bytes(n)
    for i = 1, n do random[i] = stream:below(256) end
    return string.char(unpack(random, 1, n))
  end
  local function byte(s, i) return s:byte(i + 1) end
  local half = "\0\56" -- 0.5
  local q8, q4, k4, ql, qh, s6 = bytes(32), bytes(16), bytes(128), bytes(128), bytes(64), bytes(16)
  -- 6-bit scales 1 .. 8 times 7 and mins 40 .. 47, packed bit by bit from their definition
  local s, mins, packed = {}, {}, {}
  for j = 0, 7 do s[j], mins[j] = 7 * (j + 1), 40 + j end
  for j = 0, 3 do
    packed[j + 1] = s[j] + 64 * math.floor(s[j + 4] / 16)
    packed[j + 5] = mins[j] + 64 * math.floor(mins[j + 4] / 16)
    packed[j + 9] = s[j + 4] % 16 + 16 * (mins[j + 4] % 16)
  end
  local path = folder .. "/blocks.gguf"
  q.system.write_file(path, gguf({}, {
    {"q8", {1, 32}, 8, half .. q8}, {"q4", {32}, 2, half .. q4}, {"k4", {256}, 12, half .. "\0\60" .. string.char(unpack(packed)) .. k4},
    {"k6", {1, 256}, 14, ql .. qh .. s6 .. half}, {"h", {2}, 1, "\0\60\0\192"}, {"b", {2}, 30, "\128\63\0\64"}, {"i", {2}, 26, i32(7, -7)}}))
  local w = q.load(path)
  local e8, e4, ek4, ek6 = {}, {}, {}, {}
  local function signed(x) return x < 128 and x or x - 256 end
  for i = 0, 31 do
    e8[i + 1] = 0.5 * signed(byte(q8, i))
    e4[i + 1] = 0.5 * ((i < 16 and byte(q4, i) % 16 or math.floor(byte(q4, i - 16) / 16)) - 8)
  end
  for i = 0, 255 do -- 64 values share 32 bytes: the low halves first
    local b, j = byte(k4, math.floor(i / 64) * 32 + i % 32), math.floor(i / 32)
    ek4[i + 1] = 0.5 * s[j] * (j % 2 == 0 and b % 16 or math.floor(b / 16)) - mins[j]
    local h, k, l = math.floor(i / 128), math.floor(i % 128 / 32), i % 32
    local low = byte(ql, 64 * h + k % 2 * 32 + l)
    local four = k < 2 and low % 16 or math.floor(low / 16)
    local two = math.floor(byte(qh, 32 * h + l) / 4 ^ k) % 4
    ek6[i + 1] = 0.5 * signed(byte(s6, math.floor(i / 16))) * (four + 16 * two - 32)
  end
  t.near(w.q8:view(-1):totable(), e8, 1e-6, "Q8_0")
  t.near(w.q4:totable(), e4, 1e-6, "Q4_0")
  t.near(w.k4:totable(), ek4, 1e-6, "Q4_K")
  t.near(w.k6:view(-1):totable(), ek6, 1e-6, "Q6_K")
  t.equal(q.json.encode{w.h:totable(), w.b:totable(), w.i:totable()}, "[[1,-2],[1,2],[7,-7]]", "F16, BF16, I32")
  local whole = q.system.read_file(path)
  for what, bad in pairs{["beyond the file"] = whole:sub(1, -40), ["cut off"] = whole:sub(1, 230), ["begin with GGUF"] = "XXXX" .. whole:sub(5),
    ["version 9"] = "GGUF" .. i32(9) .. whole:sub(9), ["ggml's type 3"] = gguf({}, {{"x", {32}, 3, ""}}),
    ["does not fit blocks"] = gguf({}, {{"x", {2, 16}, 8, half .. q8}}),
    ["two tensors named"] = gguf({}, {{"x", {1}, 0, f32(1)}, {"x", {1}, 0, f32(1)}})} do
    q.system.write_file(path, bad)
    t.fails(function() q.load(path) end, what, what, true)
  end
end)

require("quench.recipe.store").remove(folder)
tap.done()
