--- files.lua - models on disk in Hugging Face's layout: config.json beside model.safetensors, whole or in shards.
--
-- Reading: class and keys of config.json choose the family and its configuration, older and newer
-- names alike; every tensor of the file must have a place and every parameter a tensor, so that a
-- wrong configuration cannot load in silence. Writing: names, shapes and keys as transformers reads them.

local q = require "quench"
local help = require "quench.help"
local json = require "quench.json"
local options = require "quench.options"

local SHARD = 5e9 -- bytes a shard

-- Tensors of files that are no parameters: buffers of older writers.
local ignored = {"rotary_emb%.inv_freq$", "attention%.bias$", "attention%.masked_bias$", "attn%.bias$", "attn%.masked_bias$"}

local dtype_names = {f32 = "float32", f64 = "float64", bf16 = "bfloat16"}

local function packed() return require "quench.quant.packed" end -- loaded after the models

return function(models)
  local M = {}

  -- ---- config.json --------------------------------------------------------

  --- The content of config.json, without the keys that are null, and whole: to transformers null is a value
  -- (a missing pad_token_id is the class's own), so what is written keeps it.
  local function read_config(dir)
    local path = dir .. "/config.json"
    if not q.system.exists(path) then
      options.fail("'%s' has no config.json; a model's folder holds config.json and model.safetensors", dir)
    end
    local text = q.system.read_file(path)
    return json.decode(text, {name = path}), json.decode(text, {name = path, nulls = true})
  end

  --- The family that a config.json names, by class, then by model_type.
  local function family_of(raw, path)
    local class = type(raw.architectures) == "table" and raw.architectures[1] or nil
    for _, name in ipairs(models.names()) do
      local family = models.family(name)
      for _, a in ipairs(family.architectures) do
        if a == class then return name, family end
      end
      if not class and family.model_type == raw.model_type then return name, family end
    end
    options.fail("'%s': no family for the class %s (model_type %s); families: %s", path, tostring(class), tostring(raw.model_type),
      table.concat(models.names(), ", "))
  end

  --- rope_parameters (newer) into rope_theta and rope_scaling (older), which our families use. Where kinds of layers
  -- have their own, the stretched ones are those that see everything.
  local function read_rope(raw, given, spec)
    local r = raw.rope_parameters
    if type(r) == "table" and type(r.full_attention) == "table" then
      local windowed = r.sliding_attention or {}
      r = r.full_attention
      if windowed.rope_theta ~= r.rope_theta or (windowed.rope_type or "default") ~= "default" then
        options.fail("config.json: rope_parameters.sliding_attention must have the rope_theta of full_attention, and rope_type default")
      end
    end
    if type(r) ~= "table" then r = type(raw.rope_scaling) == "table" and raw.rope_scaling or {} end
    if spec.by_name.rope_theta then given.rope_theta = given.rope_theta or r.rope_theta end
    local kind = r.rope_type or r.type or "default"
    if kind == "default" then given.rope_scaling = nil return end
    given.rope_scaling = {}
    for key, value in pairs(r) do
      if key ~= "rope_theta" then given.rope_scaling[key] = value end
    end
    given.rope_scaling.type, given.rope_scaling.rope_type = nil, kind
  end

  --- The family's configuration from the content of a config.json.
  local function from_file(family, raw)
    local given = {}
    for _, entry in ipairs(family.spec) do
      local value = raw[entry[1]]
      if value ~= nil then given[entry[1]] = value end
    end
    if family.spec.by_name.rope_scaling or raw.rope_parameters or raw.rope_scaling then read_rope(raw, given, family.spec) end
    if not family.spec.by_name.rope_scaling and given.rope_scaling then
      options.fail("config.json: rope_scaling of type %s is not known for this family", given.rope_scaling.rope_type)
    end
    if family.from_file then family.from_file(raw, given) end
    return given
  end

  -- A fresh model has no tokenizer: the ids that a class of transformers takes for granted may be beyond its vocabulary.
  local no_tokens = {bos_token_id = json.null, eos_token_id = json.null, pad_token_id = json.null}

  --- The content of config.json for a model; keys that we do not know stay as they were.
  function M.to_file(m, dtype)
    local raw = {}
    for key, value in pairs(m.raw or no_tokens) do raw[key] = value end
    for key, value in pairs(m.config) do raw[key] = value end
    if packed().of(raw) then raw.quantization_config = nil end -- the weights of m are plain
    local c = m.config
    raw.architectures = type(raw.architectures) == "table" and raw.architectures or {m.class.architectures[1]}
    raw.model_type = m.class.model_type
    raw.dtype, raw.torch_dtype = dtype_names[dtype], dtype_names[dtype]
    if c.rope_theta then
      raw.rope_parameters = {rope_theta = c.rope_theta, rope_type = "default"}
      for key, value in pairs(c.rope_scaling or {}) do raw.rope_parameters[key] = value end
    end
    if m.class.to_file then m.class.to_file(c, raw) end
    return raw
  end

  --- q.models.config(folder) -> family, configuration, content of config.json (what is null there is q.json.null)
  function M.config(dir, changes)
    local raw, whole = read_config(dir)
    local name, family = family_of(raw, dir)
    local given = from_file(family, raw)
    for key, value in pairs(changes or {}) do given[key] = value end
    return name, given, whole
  end

  -- ---- reading ------------------------------------------------------------

  --- A source of parameters: an open file seen through the family's names. Some writers leave out the first
  -- part of a name ("transformer.", "model."): then so do we. packing: quench.quant.packed's part of config.json, or nil; then
  -- the third result are the channel scales of packed weights, by name.
  function M.source(file, dtype, path, packing, finite, note)
    local used, scales = {}, {}
    local function find(name)
      if file:has(name) then return name end
      local short = name:match("^[%w_]+%.(.+)$")
      if short and file:has(short) then return short end
    end
    local function fail_missing(name) options.fail("'%s' has no tensor '%s'%s%s", path, name, options.suggest(name, file:names()), note or "") end
    local function get(record, shape)
      local name, packed_name = find(record.name), packing and packing.weights[record.name] and record.name
      if not name and record.constant then return record.constant end
      if not name and not packed_name then fail_missing(record.name) end
      local t
      if name then
        used[name] = true
        if record.constant then return file:read(name, "f64"):item() end
        t = file:read(name, dtype)
        if record.transposed then t = t:t():contiguous() end
      else
        t, scales[packed_name] = packed().read(file, packed_name, packing, used, path)
        if dtype and t:dtype() ~= dtype then t = t:to(dtype) end
      end
      if table.concat(t:shape(), ",") ~= table.concat(shape, ",") then
        options.fail("'%s': tensor '%s' has shape (%s), the configuration asks for (%s)", path, record.name, table.concat(t:shape(), ", "),
          table.concat(shape, ", "))
      end
      if finite ~= false and not t:all_finite() then
        options.fail("'%s': tensor '%s' has values that are NaN or infinite; finite = false reads them all the same", path, record.name)
      end
      return t
    end
    --- Marks what a record will read; a tensor that is missing is an error now.
    local function mark(record)
      local name = find(record.name)
      if name then used[name] = true
      elseif packing and packing.weights[record.name] then packed().mark(file, record.name, used)
      elseif not record.constant then fail_missing(record.name) end
    end
    return get, used, scales, mark
  end

  local function is_ignored(name, tied)
    for _, pattern in ipairs(ignored) do
      if name:find(pattern) then return true end
    end
    return tied and (name == "lm_head.weight" or name == "embed_out.weight" or name == "head.weight")
  end

  local function check_used(file, used, tied, path)
    local extra = {}
    for _, name in ipairs(file:names()) do
      if not used[name] and not is_ignored(name, tied) then extra[#extra + 1] = name end
    end
    if #extra > 0 then
      options.fail("'%s' holds %d tensors that its config.json gives no place: %s%s", path, #extra,
        table.concat(extra, ", ", 1, math.min(3, #extra)), #extra > 3 and ", ..." or "")
    end
  end

  --- Marks all that a model of this configuration will read, without reading it.
  local function mark_all(name, config, mark)
    local stand_in = q.zeros(0)
    models.build(name, config, {frozen = true, source = function(record)
      mark(record)
      return record.constant or stand_in
    end})
    stand_in:free()
  end

  local spec = options.spec("q.models.load", {
    {"dtype", "string", default = "f32", choices = {"f32", "f64"}, doc = "to compute in"},
    {"config", "table", default = {}, doc = "values that win over config.json, e.g. {rope_theta = 50000}"},
    {"frozen", "boolean", default = false, doc = "parameters without gradients"},
    {"lazy", "boolean", default = false, doc = "parts are read when they are needed, and given back; implies frozen"},
    {"finite", "boolean", default = true, doc = "NaN or infinity in a parameter is an error"},
  })

  function M.load(dir, given)
    if type(dir) ~= "string" then options.fail("q.models.load: a folder expected, got %s", type(dir)) end
    local o = spec(given)
    local name, config, raw = M.config(dir, o.config)
    config.dtype = o.dtype
    local file = q.open(dir)
    local packing, foreign = packed().of(raw), type(raw.quantization_config) == "table" and raw.quantization_config.quant_method
    if packing then packed().check(packing, dir) end
    local note = not packing and foreign and (" (config.json: quantized by '%s', which is not read here)"):format(tostring(foreign)) or ""
    local source, used, scales, mark = M.source(file, o.dtype, dir, packing, o.finite, note)
    local m = models.build(name, config, {source = source, frozen = o.frozen or o.lazy, lazy = o.lazy, raw = raw})
    m.path = dir
    if o.lazy then
      if packing and packed().needs_model(packing) then options.fail("'%s' quantizes inputs or the cache too: it cannot be read lazily", dir) end
      mark_all(name, config, mark)
      m.file = file
    end
    check_used(file, used, m.config.tie_word_embeddings, dir)
    if o.lazy then return m end
    file:close()
    if packing then packed().install(m, packing, scales) end
    return m
  end

  -- ---- writing ------------------------------------------------------------

  --- Files of at most `limit` bytes: lists of {name, tensor}, in order of the parameters.
  local function split(list, limit)
    local files, bytes = {{}}, 0
    for _, item in ipairs(list) do
      local n = item[2]:nbytes()
      if bytes + n > limit and #files[#files] > 0 then files[#files + 1], bytes = {}, 0 end
      table.insert(files[#files], item)
      bytes = bytes + n
    end
    return files
  end

  --- Names and tensors as the file has them, of the whole model or of one part. lists: what stands in the place of some, by name.
  function M.file_tensors(m, dtype, part, lists)
    local list = {}
    for _, r in ipairs(m.records) do
      if (not part or r.part == part) and lists and lists[r.name] then
        for _, item in ipairs(lists[r.name]) do list[#list + 1] = item end
      elseif not part or r.part == part then
        local t = r.tensor:detach()
        if r.transposed then t = t:t():contiguous() end
        if t:dtype() ~= dtype then t = t:to(dtype) end
        list[#list + 1] = {r.name, t}
      end
    end
    for _, k in ipairs(m.constants) do
      if not part or k.part == part then list[#list + 1] = {k.name, q.tensor(k.value, "f32"):to(dtype)} end
    end
    return list
  end

  --- One file of weights; metadata beside what transformers asks for.
  function M.write(path, list, metadata)
    local tensors, about = {}, {format = "pt"}
    for _, item in ipairs(list) do tensors[item[1]] = item[2] end
    for key, value in pairs(metadata or {}) do about[key] = value end
    q.save(path, tensors, about)
  end

  --- The name of shard i of n.
  function M.shard(i, n) return ("model-%05d-of-%05d.safetensors"):format(i, n) end

  local INDEX = "model.safetensors.index.json"

  --- Takes away what an earlier model left in the folder and the one just written did not replace: its shards, its index, or its
  -- whole file, which would be read in place of the new ones.
  local function remove_earlier(dir, written)
    local earlier = {["model.safetensors"] = true}
    if q.system.exists(dir .. "/" .. INDEX) then
      local ok, index = pcall(json.read, dir .. "/" .. INDEX)
      for _, name in pairs(ok and type(index.weight_map) == "table" and index.weight_map or {}) do
        if type(name) == "string" and name:find("^model%-%d+%-of%-%d+%.safetensors$") then earlier[name] = true end
      end
      earlier[INDEX] = true
    end
    for name in pairs(earlier) do
      if not written[name] then os.remove(dir .. "/" .. name) end
    end
  end

  --- The index of shards: map is tensor -> name of its file.
  function M.write_index(dir, map, total)
    q.system.write_file(dir .. "/" .. INDEX, json.encode{metadata = {total_size = total}, weight_map = map} .. "\n")
  end

  local function write_shards(dir, files)
    local map, total, written = {}, 0, {[INDEX] = true}
    for i, list in ipairs(files) do
      local name = M.shard(i, #files)
      M.write(dir .. "/" .. name, list)
      written[name] = true
      for _, item in ipairs(list) do map[item[1]], total = name, total + item[2]:nbytes() end
    end
    remove_earlier(dir, written)
    M.write_index(dir, map, total)
  end

  local function write_whole(dir, list)
    M.write(dir .. "/model.safetensors", list)
    remove_earlier(dir, {["model.safetensors"] = true})
  end

  local save_spec = options.spec("q.models.save", {
    {"dtype", "string", choices = {"f32", "f64", "bf16"}, doc = "of the file [the model's]"},
    {"shard", "number", default = SHARD, above = 0, doc = "most bytes a file", unit = "bytes"},
  })

  --- packing: {lists =, config =} of quench.quant.packed, or nil.
  function M.write_model(m, dir, o, packing)
    q.system.make_directories(dir)
    q.scope(q.no_grad, function()
      local files = split(M.file_tensors(m, o.dtype or m.dtype, nil, packing and packing.lists), o.shard)
      if #files == 1 then write_whole(dir, files[1]) else write_shards(dir, files) end
      local raw = M.to_file(m, o.dtype or m.dtype)
      raw.quantization_config = packing and packing.config or m.rotations and packed().config({}, {}, nil, m) or raw.quantization_config
      q.system.write_file(dir .. "/config.json", json.encode(raw) .. "\n")
    end)
    return m
  end

  function M.save(m, dir, given)
    if type(dir) ~= "string" then options.fail("q.models.save: a folder expected, got %s", type(dir)) end
    local o = save_spec(given)
    if m.lazy then options.fail("q.models.save: a lazy model has nothing in memory to save; q.disk.quantize writes one") end
    return M.write_model(m, dir, o)
  end

  help.add{"q.models.load", M.load, "load(folder, options?) -> model",
    "Reads a model in Hugging Face's layout: config.json and model.safetensors, whole or in shards.",
    options = spec, errors = "no config.json; a class without a family; a tensor that is missing, left over, or of another shape, by name",
    example = 'local m = q.models.load("pythia-160m")\nprint(m)', see = {"q.models.new", "q.models.save"}}
  help.add{"q.models.save", M.save, "model:save(folder, options?)", "Writes a model so that q.models.load and transformers can read it.",
    text = "A model that was in the folder is replaced, shards and all. Inputs, keys and values that are rounded when the model runs\n"
      .. "(activations, kv, SmoothQuant, LLM.int8) are not in these files: q.quant.save keeps them.",
    options = save_spec, example = 'm:save("small", {dtype = "bf16"})', see = {"q.models.load"}}
  help.add{"q.models.config", M.config, "config(folder, changes?) -> family, configuration, content of config.json",
    "What config.json says, in the terms of the family; in its content null is q.json.null.",
    example = 'print((q.models.config("pythia-160m")))', see = {"q.models.load"}}

  return M
end
