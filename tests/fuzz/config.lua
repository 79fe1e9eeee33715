-- Broken config.json files: each either loads or is one error; none hangs, and none takes memory that the file does not justify.
local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"

local odd = {-1, 0, 1, 3, 7.5, 1e9, 1e300, "x", "", true, {}, {1}, {rope_type = "yarn"}, {rope_theta = -1}, json.null, "gelu", {"a", "b"}}

local function mutate(raw, stream)
  local keys = {}
  for key in pairs(raw) do keys[#keys + 1] = key end
  table.sort(keys)
  for _ = 1, 1 + stream:below(2) do
    local key = keys[1 + stream:below(#keys)]
    if stream:below(6) == 0 then raw[key] = nil else raw[key] = odd[1 + stream:below(#odd)] end
  end
  return raw
end

local families = q.system.list("tests/fixtures/hf")
table.sort(families)
for _, family in ipairs(families) do
  tap.test(family, function(t)
    local dir, stream = os.tmpname(), q.stream(1, "fuzz " .. family)
    os.remove(dir)
    q.system.make_directories(dir)
    os.execute(("cp tests/fixtures/hf/%s/model.safetensors %s/"):format(family, dir))
    local text = q.system.read_file("tests/fixtures/hf/" .. family .. "/config.json")
    local loaded, refused, long = 0, 0, nil
    q.system.reset_peak()
    local before = q.system.memory().live
    for _ = 1, 60 do
      local file = io.open(dir .. "/config.json", "w") -- not atomically: that would wait for the disk each time
      file:write(json.encode(mutate(json.decode(text), stream)))
      file:close()
      local ok, message = pcall(q.scope, function()
        local m = q.models.load(dir)
        pcall(q.disk.plan, dir)
        m:loss(q.tensor({{1, 2, 3}}, "i32"))
      end)
      if ok then loaded = loaded + 1 else refused = refused + 1 end
      if not ok and tostring(message):find("\n") then long = message end
    end
    t.ok(loaded > 0 and refused > 0, family .. ": some load, some are refused", loaded .. " and " .. refused)
    t.equal(long, nil, family .. ": in one line")
    collectgarbage()
    t.ok(q.system.memory().peak - before < 20e6, family .. ": without much memory", q.system.memory().peak - before)
    os.execute("rm -r " .. dir)
  end)
end

tap.done()
