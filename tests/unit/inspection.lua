-- quench inspect looks at a tensor in slices: the numbers are those of the whole, memory holds a slice.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local inspection = require "quench.quant.inspection"

--- What the command prints, and the most memory it took.
local function inspect(...)
  local write, text, before = io.write, {}, q.system.memory().live
  q.system.reset_peak()
  io.write = function(...) for _, part in ipairs{...} do text[#text + 1] = part end end -- luacheck: ignore 122
  local ok, message = pcall(inspection.main, {...})
  io.write = write -- luacheck: ignore 122
  if not ok then error(message, 0) end
  return table.concat(text), q.system.memory().peak - before
end

tap.test("slices", function(t)
  local path = os.tmpname() .. ".safetensors"
  local w = q.randn(9000, 513, q.stream(3, "w")) -- nine slices of rows, the last short
  w[9000][7], w[4000][9] = 11, -9
  q.save(path, {w = w, row = w:narrow(1, 9000, 1):view(-1)})
  local expected = {w:min():item(), w:max():item(), q.metrics.kurtosis(w, {over = "all"}).value, q.metrics.mmr(w).value}
  for _, bits in ipairs{2, 3, 4, 8} do
    local y = q.quant.rtn(w, q.quant.int(bits, {group = 100}))
    expected[#expected + 1] = (y - w):to("f64"):square():sum():item() / w:to("f64"):square():sum():item()
  end
  collectgarbage() collectgarbage()
  local text, peak = inspect(path, "--group=100")
  local line, i = text:match "\nw +9000x513 ([^\n]*)", 0
  for number in line:gmatch "%S+" do
    i = i + 1
    t.near(tonumber(number), expected[i], 6e-3 * math.abs(expected[i]), "number " .. i)
  end
  t.equal(i, 8, "eight numbers")
  t.ok(peak < 3 * w:nbytes(), "not several copies of the whole in f64", ("%d bytes, the tensor has %d"):format(peak, w:nbytes()))
  i = 0
  for _ in text:match "\nrow +513 ([^\n]*)":gmatch "%S+" do i = i + 1 end
  t.equal(i, 4, "a vector is not rounded")
  w[8000][3] = 0 / 0
  q.save(path, {w = w:to("bf16"), none = q.zeros(0, 4), ids = q.zeros(3, "i32")})
  text = inspect(path)
  t.ok(text:find "\nw +9000x513 +holds NaN or infinity\n"
    and text:find "\nnone +0x4 +f32\n" and text:find "\nids +3 +i32\n", "what has no numbers", text)
  os.remove(path)
end)

tap.done()
