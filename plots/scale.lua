--- Scales: from data to positions, and which ticks to draw.
-- A scale works on transformed values u = forward(x); linear in u is linear on paper.
--
--   local s = scale.new("log")
--   s:fit(1e-3, 20)                      -- data limits, with a small margin
--   s:position(0.1)                      -- 0..1 along the axis
--   local ticks = s:ticks(200, 36)       -- over 200 points, one every 36 or so

local text = require "quench.plots.text"

local scale = {}
local Scale = {}
Scale.__index = Scale

local log10 = math.log10
local function log2(x) return math.log(x) / math.log(2) end
local function always(x) return x == x end
local function positive(x) return x > 0 end

local kinds = {
  linear = {valid = always, forward = function(x) return x end, inverse = function(u) return u end},
  log = {valid = positive, forward = log10, inverse = function(u) return 10 ^ u end},
  log2 = {valid = positive, forward = log2, inverse = function(u) return 2 ^ u end},
  reciprocal = {valid = positive, forward = function(x) return -1 / x end, inverse = function(u) return u >= 0 and math.huge or -1 / u end},
  category = {valid = always, forward = function(x) return x end, inverse = function(u) return u end},
  symlog = {valid = always},
}
scale.names = {"linear", "log", "log2", "symlog", "reciprocal"}

--- A scale by name; `linear` is the half-width of symlog's linear part.
function scale.new(name, linear)
  local kind = kinds[name]
  local s = {name = name, valid = kind.valid, forward = kind.forward, inverse = kind.inverse}
  if name == "symlog" then
    local c = linear or 1
    s.linear = c
    s.forward = function(x) return x < 0 and -log10(1 - x / c) or log10(1 + x / c) end
    s.inverse = function(u) return u < 0 and -c * (10 ^ -u - 1) or c * (10 ^ u - 1) end
  end
  return setmetatable(s, Scale)
end

--- Sets the limits to data from low to high, with `before` and `after` of the length as margin.
function Scale:fit(low, high, before, after)
  local a, b = self.forward(low), self.forward(high)
  if a > b then a, b = b, a end
  if b - a <= 1e-12 * math.max(math.abs(a), math.abs(b)) then -- one value: room around it
    local d = self.name == "linear" and math.max(math.abs(a) * 0.1, a == 0 and 1 or 0) or 0.5
    if self.name == "reciprocal" then d = math.abs(a) * 0.1 end
    a, b = a - d, b + d
  end
  local length = b - a
  self.u0, self.u1 = a - (before or 0) * length, b + (after or before or 0) * length
  if self.name == "reciprocal" and b < 0 then self.u1 = math.min(self.u1, 0) end
end

function Scale:position(x)
  if not self.valid(x) then return 0 / 0 end
  local p = (self.forward(x) - self.u0) / (self.u1 - self.u0)
  return self.reverse and 1 - p or p
end

--- The data limits, lower first.
function Scale:limits() return self.inverse(self.u0), self.inverse(self.u1) end

function Scale:inside(x)
  local p = self:position(x)
  return p >= -1e-9 and p <= 1 + 1e-9
end

-- --- ticks ---

local nice = {{1, 0}, {2, 0}, {2.5, 0.35}, {5, 0.05}}

--- The step 1, 2, 2.5 or 5 x 10^k nearest to `wish` (as ratios go, 2.5 held back).
function scale.nice_step(wish)
  local power = 10 ^ math.floor(log10(wish))
  local best, cost
  for _, p in ipairs{power / 10, power, power * 10} do
    for _, n in ipairs(nice) do
      local c = math.abs(math.log(n[1] * p / wish)) + n[2]
      if not cost or c < cost then best, cost = n[1] * p, c end
    end
  end
  return best
end

--- Multiples of step from low to high.
local function multiples(low, high, step)
  local out, slack = {}, 1e-9 * step + 1e-15 * math.max(math.abs(low), math.abs(high)) -- rounding must not lose the ends
  for k = math.ceil((low - slack) / step), math.floor((high + slack) / step) do out[#out + 1] = k == 0 and 0 or k * step end
  return out
end

local function linear_ticks(low, high, length, spacing)
  local step = scale.nice_step((high - low) * spacing / length)
  local major = multiples(low, high, step)
  if #major < 2 then
    step = scale.nice_step((high - low) / 3)
    major = multiples(low, high, step)
  end
  local labels, factor = text.fixed(major, step)
  return {major = major, labels = labels, factor = factor, minor = {}}
end

--- Powers of base with every `stride`-th labelled.
local function power_ticks(self, base, length, spacing)
  local first, last = math.ceil(self.u0 - 1e-9), math.floor(self.u1 + 1e-9)
  local stride = 1
  while (last - first) / stride > math.max(1, 1.45 * length / spacing) do stride = stride == 1 and 2 or stride == 2 and 3 or stride + 3 end
  local t = {major = {}, labels = {}, minor = {}}
  for k = first, last do
    if k % stride == 0 then
      t.major[#t.major + 1] = base ^ k
      t.labels[#t.labels + 1] = text.power(base, k)
    elseif stride <= 6 then
      t.minor[#t.minor + 1] = base ^ k
    end
  end
  return t, stride, first, last
end

--- Within two decades: 1, 2, 5 or all of 1..9 labelled.
local function narrow_log_ticks(self, length, spacing)
  local low, high = self:limits()
  local decade = length / (self.u1 - self.u0)
  local t = {major = {}, labels = {}, minor = {}}
  local sets = {{1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 5}, {1, 2, 5}, {1, 3}, {1}}
  local smallest = {log10(9 / 8), log10(5 / 3), log10(2), log10(3), 1}
  local set = 1
  while set < #sets and decade * smallest[set] < 0.5 * spacing do set = set + 1 end
  local chosen = {}
  for _, m in ipairs(sets[set]) do chosen[m] = true end
  for k = math.floor(self.u0), math.floor(self.u1) do
    for m = 1, 9 do
      local v = m * 10 ^ k
      if v >= low * (1 - 1e-9) and v <= high * (1 + 1e-9) then
        if chosen[m] then t.major[#t.major + 1] = v else t.minor[#t.minor + 1] = v end
      end
    end
  end
  t.labels = text.few(t.major)
  return t
end

local function log_ticks(self, length, spacing)
  local t, stride, first, last = power_ticks(self, 10, length, spacing)
  if last - first < 1 or (last - first == 1 and self.u1 - self.u0 < 1.6) then
    local low, high = self:limits()
    if self.u1 - self.u0 < 0.35 then return linear_ticks(low, high, length, spacing) end
    return narrow_log_ticks(self, length, spacing)
  end
  if stride == 1 and length / (self.u1 - self.u0) > 10 then
    local low, high = self:limits()
    for k = first - 1, last do
      for m = 2, 9 do
        local v = m * 10 ^ k
        if v > low and v < high then t.minor[#t.minor + 1] = v end
      end
    end
  end
  return t
end

local function log2_ticks(self, length, spacing)
  local t, _, first, last = power_ticks(self, 2, length, spacing)
  if last - first < 1 then
    local low, high = self:limits()
    return linear_ticks(low, high, length, spacing)
  end
  if first >= -3 and last <= 13 then
    for i, v in ipairs(t.major) do t.labels[i] = text.number(v) end
  end
  return t
end

--- Zero first, then powers from the large to the small ones, each where there is still room.
local function symlog_ticks(self, length, spacing)
  local low, high = self:limits()
  local t = {major = {}, labels = {}, minor = {}}
  local first = math.ceil(log10(self.linear) - 1e-9)
  local last = math.max(first, math.floor(log10(math.max(math.abs(low), math.abs(high), self.linear)) + 1e-9))
  local per_u, kept = length / (self.u1 - self.u0), {}
  local function add(v)
    if v < low or v > high then return end
    local u = self.forward(v)
    for _, other in ipairs(kept) do
      if math.abs(self.forward(other) - u) * per_u < 0.4 * spacing then return end
    end
    kept[#kept + 1] = v
  end
  add(0)
  for k = last, first, -1 do
    add(10 ^ k)
    add(-10 ^ k)
    for m = 1, 9 do
      for _, v in ipairs{m * 10 ^ k, -m * 10 ^ k} do
        if v >= low and v <= high then t.minor[#t.minor + 1] = v end
      end
    end
  end
  table.sort(kept)
  for i, v in ipairs(kept) do
    local power = v ~= 0 and text.power(10, math.floor(log10(math.abs(v)) + 0.5))
    t.major[i], t.labels[i] = v, v == 0 and "0" or (v < 0 and "−" or "") .. power
  end
  return t
end

--- Round numbers, from the dense end (large x) to the sparse one, each at least 0.6 spacings from the last.
local function reciprocal_ticks(self, length, spacing)
  local low, high = self:limits()
  local t = {major = {}, labels = {}, minor = {}}
  local per_u = length / (self.u1 - self.u0)
  local last_u
  local function add(v, label)
    local u = v == math.huge and 0 or -1 / v
    if u < self.u0 - 1e-12 or u > self.u1 + 1e-12 then return end
    if last_u and (last_u - u) * per_u < 0.6 * spacing then return end
    last_u = u
    table.insert(t.major, 1, v)
    table.insert(t.labels, 1, label)
  end
  if high == math.huge then add(math.huge, "∞") end
  local top = high == math.huge and 10 ^ math.ceil(log10(low) + 3) or high
  for k = math.ceil(log10(top)), math.floor(log10(low)), -1 do
    for _, m in ipairs{8, 5, 4, 3, 2, 1.5, 1} do add(m * 10 ^ k, text.number(m * 10 ^ k)) end
  end
  return t
end

local function category_ticks(self)
  local t = {major = {}, labels = {}, minor = {}}
  for i, name in ipairs(self.categories or {}) do t.major[i], t.labels[i] = i, tostring(name) end
  return t
end

local tickers = {
  linear = function(self, length, spacing)
    local low, high = self:limits()
    return linear_ticks(low, high, length, spacing)
  end,
  log = log_ticks, log2 = log2_ticks, symlog = symlog_ticks, reciprocal = reciprocal_ticks, category = category_ticks,
}

--- {major = values, labels = texts, minor = values, factor = text or nil} over `length` points, one each `spacing` or so.
function Scale:ticks(length, spacing)
  return tickers[self.name](self, math.max(length, 1), spacing)
end

return scale
