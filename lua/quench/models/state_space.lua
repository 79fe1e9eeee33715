--- state_space.lua - selective state spaces: h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t, y_t = C_t h_t.
--
-- Two algorithms for the same recurrence. `selective` (Mamba, Gu and Dao, 2023) has a decay for each channel and
-- state and runs the recurrence as it stands, on a slice of the channels at a time; for derivatives a slice's states
-- are computed again, so that no more than one slice of them is ever in memory (as in the paper, section 3.3.2).
-- `dual` (Mamba-2, Dao and Gu, 2024) has one decay a head, which makes a stretch of time a masked matrix product;
-- only the state between stretches is carried on by the recurrence. Both are made of ops, so all derivatives follow.

local nn = require "quench.nn"
local q = require "quench"

local space = {}

local SLICE = 2 ^ 18 -- numbers of state that `selective` has at a time; in f32 1 MB, which fits near a core

--- fn(tensors...) -> tensor as one op that keeps its inputs alone: for each derivative fn is computed again. All that fn
-- depends on must be among its arguments.
local function recomputed(fn)
  -- tensors of the same values, behind which history goes on while recording (x:view is a node of its own)
  local function stand_ins(inputs)
    local list = {}
    for i, x in ipairs(inputs) do list[i] = q.is_recording() and x:view(x:shape()) or x:detach():requires_grad() end
    return list
  end
  local function again(rule) -- rule(y, inputs) -> list; what is made on the way is given back
    return function(ctx, ...)
      local given = {...}
      return unpack(q.scope(function()
        local inputs = stand_ins(ctx.inputs)
        return rule(q.with_grad(fn, unpack(inputs)), inputs, given)
      end))
    end
  end
  return q.custom{
    name = "recomputed", forward = function(_, ...) return q.scope(fn, ...) end,
    vjp = again(function(y, inputs, given) return q.grad(y, inputs, {gradient = given[1], create_graph = q.is_recording()}) end),
    jvp = again(function(y, inputs, given)
      local along, tangents = {}, {}
      for i, x in ipairs(inputs) do
        if given[i] then along[#along + 1], tangents[#tangents + 1] = x, given[i] end
      end
      return q.jvp({y}, along, tangents)
    end),
  }
end

-- One slice of the channels: x, dt (B, T, D), A (D, N), b, c (B, T, N).
local function scan_channels(x, dt, A, b, c)
  local B, T, D, N = x:size(1), x:size(2), x:size(3), A:size(2)
  local decay = (dt:view(B, T, D, 1) * A):exp()
  local input = (dt * x):view(B, T, D, 1) * b:view(B, T, 1, N)
  local h = nn.scan(decay:view(B, T, D * N), input:view(B, T, D * N))
  return h:view(B, T, D, N):matmul(c:view(B, T, N, 1)):view(B, T, D)
end

local scan_again = recomputed(scan_channels)

--- x, dt (B, T, D), A (D, N) negative, b, c (B, T, N) -> y (B, T, D). slice: numbers of state at a time.
function space.selective(x, dt, A, b, c, slice)
  local channels = x:size(3)
  local step = math.max(math.ceil(channels / 64), math.floor((slice or SLICE) / (x:size(1) * x:size(2) * A:size(2)))) -- q.concat joins up to 64
  if step >= channels then return scan_again(x, dt, A, b, c) end
  local parts = {}
  for first = 1, channels, step do
    local n = math.min(step, channels - first + 1)
    parts[#parts + 1] = q.scope(function()
      local function part(t, axis) return t:narrow(axis, first, n):contiguous() end
      return scan_again(part(x, 3), part(dt, 3), part(A, 1), b, c)
    end)
  end
  return q.concat(parts, 3)
end

-- Lower triangle of an L x L matrix as 0 and 1, the diagonal included.
local function lower(L, dtype)
  local at = q.arange(L, dtype)
  return at:view(L, 1):ge(at:view(1, L))
end

-- (B, T, ...) to (B, chunks, L, ...), the end filled with zeros.
local function cut(t, L)
  local missing = -t:size(2) % L
  if missing > 0 then t = t:pad(2, 0, missing) end
  local shape = t:shape()
  local cut_shape = {shape[1], shape[2] / L, L}
  for i = 3, #shape do cut_shape[i + 1] = shape[i] end
  return t:view(cut_shape)
end

local function scan_heads(L, x, dt, A, b, c)
  local B, T, H, P = x:size(1), x:size(2), x:size(3), x:size(4)
  local G, N = b:size(3), b:size(4)
  L = math.min(L, T)
  local R, C = H / G, math.ceil(T / L) -- heads a group, stretches
  -- log of the decay from the stretch's start to each place: (B, C, G, R, L)
  local logs = cut(dt * A, L):permute(1, 2, 4, 3):cumsum(4):view(B, C, G, R, L)
  local xs = cut(x * dt:view(B, T, H, 1), L):permute(1, 2, 4, 3, 5):contiguous():view(B, C, G, R, L, P)
  local bs = cut(b, L):permute(1, 2, 4, 3, 5) -- (B, C, G, L, N)
  local cs = cut(c, L):permute(1, 2, 4, 3, 5)
  -- within a stretch: y_l = sum over s <= l of (c_l b_s) exp(logs_l - logs_s) x_s
  local gaps = logs:view(B, C, G, R, L, 1) - logs:view(B, C, G, R, 1, L)
  local decay = q.where(lower(L, x:dtype()), gaps, -1e4):exp() -- exp(-1e4) is 0
  local scores = cs:matmul(bs:transpose(4, 5)):contiguous():view(B, C, G, 1, L, L) * decay
  local y = scores:matmul(xs)
  if C > 1 then
    -- what a stretch adds to the state, and the state at each start: (B, C, G R N P)
    local last = logs:narrow(5, L, 1)
    local kept = (last - logs):exp():view(B, C, G, R, L, 1)
    local added = bs:transpose(4, 5):contiguous():view(B, C, G, 1, N, L):matmul(xs * kept)
    local through = last:exp():view(B, C, H, 1):expand(B, C, H, N * P):contiguous():view(B, C, H * N * P)
    local state = nn.scan(through, added:contiguous():view(B, C, H * N * P))
    local start = state:narrow(2, 1, C - 1):pad(2, 1, 0):contiguous():view(B, C, G, R, N, P)
    y = y + cs:contiguous():view(B, C, G, 1, L, N):matmul(start) * logs:exp():view(B, C, G, R, L, 1)
  end
  y = y:view(B, C, H, L, P):permute(1, 2, 4, 3, 5):contiguous():view(B, C * L, H, P)
  return y:narrow(2, 1, T)
end

--- x (B, T, H, P), dt (B, T, H), A (H) negative, b, c (B, T, G, N), G dividing H -> y (B, T, H, P).
-- L: length of a stretch; any gives the same result.
function space.dual(x, dt, A, b, c, L)
  return recomputed(function(...) return scan_heads(L, ...) end)(x, dt, A, b, c)
end

return space
