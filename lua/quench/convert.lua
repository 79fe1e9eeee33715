--- Models of other programs, rewritten as a folder in Hugging Face's layout: config.json, model.safetensors,
-- tokenizer.json. What works on such a folder (load, quantize, evaluate) then works on them.
--
-- llama2.c and GGUF's llama models turn neighbouring pairs in the rotary embedding, Hugging Face's turn
-- halves: the rows of q_proj and k_proj are reordered, which changes no attention score.

local q = require "quench"
local ffi = require "ffi"
local options = require "quench.options"
local help = require "quench.help"

local M = {}

local MARKER = "\226\150\129" -- U+2581, SentencePiece's space

--- Rows (head, pair, 2) to (head, 2, pair).
local function halves(w, heads)
  local rows, columns = w:size(1), w:size(2)
  return w:view(heads, rows / heads / 2, 2, columns):transpose(2, 3):contiguous():view(rows, columns)
end

-- ---- SentencePiece tokenizers ---------------------------------------------

--- Every way to put a piece together from two others is a merge, the better piece's first.
local function merges_of(pieces, scores, ids)
  local merges = {}
  for id, piece in pairs(pieces) do
    for at = 1, #piece - 1 do
      local left, right = piece:sub(1, at), piece:sub(at + 1)
      if ids[left] and ids[right] then
        merges[#merges + 1] = {left, right, score = scores[id], left = ids[left], right = ids[right]}
      end
    end
  end
  table.sort(merges, function(a, b)
    if a.score ~= b.score then return a.score > b.score end
    if a.left ~= b.left then return a.left < b.left end
    return a.right < b.right
  end)
  for i, m in ipairs(merges) do merges[i] = {m[1], m[2]} end
  return q.json.list(merges)
end

local function special(id, content)
  return {id = id, content = content, single_word = false, lstrip = false, rstrip = false, normalized = false, special = true}
end

--- tokenizer.json for pieces[id] with scores[id]; 0, 1 and 2 are <unk>, <s> and </s>.
local function sentencepiece(pieces, scores)
  local ids, whole = {}, {}
  for id, piece in pairs(pieces) do
    ids[piece] = id
    if id > 2 and not piece:match "^<0x%x%x>$" then whole[id] = piece end
  end
  return {
    version = "1.0", added_tokens = {special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")},
    normalizer = {type = "Sequence", normalizers = {{type = "Prepend", prepend = MARKER},
      {type = "Replace", pattern = {String = " "}, content = MARKER}}},
    post_processor = {type = "TemplateProcessing", single = {{SpecialToken = {id = "<s>", type_id = 0}}, {Sequence = {id = "A", type_id = 0}}},
      pair = q.json.list{}, special_tokens = {["<s>"] = {id = "<s>", ids = {1}, tokens = {"<s>"}}}},
    decoder = {type = "Sequence", decoders = {{type = "Replace", pattern = {String = MARKER}, content = " "}, {type = "ByteFallback"},
      {type = "Fuse"}, {type = "Strip", content = " ", start = 1, stop = 0}}},
    model = {type = "BPE", unk_token = "<unk>", fuse_unk = true, byte_fallback = true, ignore_merges = false,
      vocab = ids, merges = merges_of(whole, scores, ids)},
  }
end

local function write_folder(out, config, tensors, tokenizer)
  q.system.make_directories(out)
  config.architectures, config.model_type, config.hidden_act = {"LlamaForCausalLM"}, "llama", "silu"
  q.system.write_file(out .. "/config.json", q.json.encode(config, {indent = 2}) .. "\n")
  q.save(out .. "/model.safetensors", tensors, {format = "pt"})
  if tokenizer then q.system.write_file(out .. "/tokenizer.json", q.json.encode(tokenizer)) end
  return out
end

-- ---- llama2.c -------------------------------------------------------------

--- tokenizer.bin: i32 longest piece, then for each piece f32 score, i32 length, bytes. Spaces stand for markers.
local function read_tokenizer(path, vocab)
  local data, at = q.system.read_file(path), 4
  local pieces, scores = {}, {}
  for id = 0, vocab - 1 do
    if at + 8 > #data then options.fail("'%s': cut off at token %d of %d", path, id, vocab) end
    local bytes = ffi.cast("const char *", data) + at
    local head = ffi.new "struct { float score; int32_t length; }"
    ffi.copy(head, bytes, 8)
    if head.length < 0 or head.length > #data - at - 8 then options.fail("'%s': token %d has %d bytes", path, id, head.length) end
    pieces[id] = (data:sub(at + 9, at + 8 + head.length):gsub(" ", MARKER))
    scores[id] = head.score
    at = at + 8 + head.length
  end
  if at ~= #data then options.fail("'%s': %d bytes behind the last of %d tokens", path, #data - at, vocab) end
  pieces[0], pieces[1], pieces[2] = "<unk>", "<s>", "</s>"
  return sentencepiece(pieces, scores)
end

local llama2c_options = options.spec("q.convert.llama2c", {
  {"model", "string", required = true, doc = "the .bin file (legacy or version 1)"},
  {"tokenizer", "string", doc = "its tokenizer.bin"},
  {"out", "string", required = true, doc = "folder to write"},
})

function M.llama2c(o)
  o = llama2c_options(o)
  local file = q.open(o.model)
  local about = file:metadata()
  if about.format ~= "llama2.c" then options.fail("'%s' is no llama2.c model; its name must end in .bin", o.model) end
  local function size(key) return tonumber(about[key]) end
  local config = {
    hidden_size = size "dim", intermediate_size = size "hidden_dim", num_hidden_layers = size "n_layers",
    num_attention_heads = size "n_heads", num_key_value_heads = size "n_kv_heads", vocab_size = size "vocab_size",
    max_position_embeddings = size "max_seq_len", rms_norm_eps = 1e-5, rope_theta = 10000, tie_word_embeddings = about.tied == "true",
    bos_token_id = 1, eos_token_id = 2,
  }
  local tensors = {}
  for _, name in ipairs(file:names()) do
    local t = file:read(name)
    if name:find "q_proj" then t = halves(t, size "n_heads") elseif name:find "k_proj" then t = halves(t, size "n_kv_heads") end
    tensors[name] = t
  end
  file:close()
  return write_folder(o.out, config, tensors, o.tokenizer and read_tokenizer(o.tokenizer, config.vocab_size))
end

-- ---- GGUF -----------------------------------------------------------------

local gguf_names = {
  attn_norm = "input_layernorm", attn_q = "self_attn.q_proj", attn_k = "self_attn.k_proj", attn_v = "self_attn.v_proj",
  attn_output = "self_attn.o_proj", ffn_norm = "post_attention_layernorm", ffn_gate = "mlp.gate_proj", ffn_up = "mlp.up_proj",
  ffn_down = "mlp.down_proj",
}

local gguf_outer = {["token_embd.weight"] = "model.embed_tokens.weight", ["output.weight"] = "lm_head.weight",
  ["output_norm.weight"] = "model.norm.weight"}

local function name_of(name, path)
  local layer, part = name:match "^blk%.(%d+)%.([%w_]+)%.weight$"
  local new = gguf_outer[name] or layer and gguf_names[part] and ("model.layers.%s.%s.weight"):format(layer, gguf_names[part])
  if not new and name:find "^rope_" then return nil end -- tables that follow from the configuration
  return new or options.fail("'%s': tensor '%s' has no place in a Llama", path, name)
end

local function gguf_tokenizer(about, path)
  local kind = about["tokenizer.ggml.model"]
  if kind ~= "llama" then
    options.fail("'%s': its tokenizer is of kind '%s'; 'llama' is converted (pass tokenizer = false, and use the model's own)", path,
      tostring(kind))
  end
  local pieces, scores = {}, {}
  local texts, values = q.json.decode(about["tokenizer.ggml.tokens"]), q.json.decode(about["tokenizer.ggml.scores"])
  for i, piece in ipairs(texts) do pieces[i - 1], scores[i - 1] = piece, values[i] end
  return sentencepiece(pieces, scores)
end

local gguf_options = options.spec("q.convert.gguf", {
  {"model", "string", required = true, doc = "the .gguf file, of architecture llama"},
  {"tokenizer", "boolean", default = true, doc = "write the tokenizer in it as well"},
  {"out", "string", required = true, doc = "folder to write"},
})

function M.gguf(o)
  o = gguf_options(o)
  local file = q.open(o.model)
  local about = file:metadata()
  local kind = about["general.architecture"]
  if kind ~= "llama" then options.fail("'%s': models of architecture '%s' are not converted, only llama", o.model, tostring(kind)) end
  local function number(key, otherwise)
    return tonumber(about["llama." .. key]) or otherwise or options.fail("'%s': no llama.%s", o.model, key)
  end
  local heads = number "attention.head_count"
  local kv_heads = number("attention.head_count_kv", heads)
  local config = {
    hidden_size = number "embedding_length", intermediate_size = number "feed_forward_length", num_hidden_layers = number "block_count",
    num_attention_heads = heads, num_key_value_heads = kv_heads, vocab_size = file:info("token_embd.weight").shape[1],
    max_position_embeddings = number "context_length", rms_norm_eps = number "attention.layer_norm_rms_epsilon",
    rope_theta = number("rope.freq_base", 10000), tie_word_embeddings = not file:has "output.weight", bos_token_id = 1, eos_token_id = 2,
  }
  local tensors = {}
  for _, name in ipairs(file:names()) do
    local new, t = name_of(name, o.model), nil
    if new then t = file:read(name) end
    if name:find "attn_q" then t = halves(t, heads) elseif name:find "attn_k" then t = halves(t, kv_heads) end
    if new then tensors[new] = t end
  end
  file:close()
  return write_folder(o.out, config, tensors, o.tokenizer and gguf_tokenizer(about, o.model))
end

help.add{"q.convert.llama2c", M.llama2c, "llama2c{model=, tokenizer=, out=} -> folder", "A model of llama2.c as a folder for q.models.load.",
  options = llama2c_options, errors = "a file that is no such model", source = "format: github.com/karpathy/llama2.c",
  example = [[
q.convert.llama2c{model = "stories260K.bin", tokenizer = "tok512.bin", out = "stories"}
local model = q.models.load "stories"]], see = {"q.models.load"}}

help.add{"q.convert.gguf", M.gguf, "gguf{model=, out=} -> folder", "A GGUF file of a Llama as a folder for q.models.load.",
  text = [[
Tensors may be F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K; they are written as f32. q.load and q.open read the tensors of any
GGUF file under its own names.]],
  options = gguf_options, errors = "other architectures and tokenizers", source = "format: github.com/ggml-org/ggml",
  example = [[q.convert.gguf{model = "tiny.gguf", out = "tiny"}]], see = {"q.open", "q.models.load"}}

return M
